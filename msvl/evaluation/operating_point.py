"""F1 and accuracy need a threshold. Here it is chosen on validation labels, never on the ones that are judged.

N images, R resamples. An image counts as positive when its score is at or above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from msvl.evaluation.bootstrap import Statistic
from msvl.evaluation.metrics import Floats

Rule = Literal["youden", "f1"]
"""'youden': largest sensitivity + specificity (CheXzero); 'f1': largest F1 (MedKLIP, which looks at the test labels)."""


def choose_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating], rule: Rule) -> float:
    """Return the best threshold among the scores themselves; the highest of equally good ones.

    Args:
        labels: [N] of 1 and 0, both present; anything else is skipped.
        scores: [N].
        rule: What 'best' means.
    """
    known = np.isin(labels, (0, 1))
    order = np.argsort(-scores[known], kind="stable")
    ordered, positive = scores[known][order], labels[known][order] == 1
    last_of_value = np.r_[ordered[1:] != ordered[:-1], True]
    hits, alarms = np.cumsum(positive)[last_of_value], np.cumsum(~positive)[last_of_value]
    merits = {
        "youden": hits / positive.sum() - alarms / (~positive).sum(),
        "f1": 2.0 * hits / (hits + alarms + positive.sum()),
    }
    return float(ordered[last_of_value][int(np.argmax(merits[rule]))])


def f1_statistic(labels: NDArray[np.integer], scores: NDArray[np.floating], threshold: float) -> Statistic:
    """Return the F1 of the positive class, 0 where nothing is positive and nothing predicted (scikit-learn's rule)."""
    return _of_counts(labels, scores, threshold, lambda hit, alarm, missed, clear: _f1(hit, alarm, missed))


def weighted_f1_statistic(labels: NDArray[np.integer], scores: NDArray[np.floating], threshold: float) -> Statistic:
    """Return the F1 of both classes weighted by how many there are (MaCo's `f1_score(..., average='weighted')`)."""

    def value(hit: Floats, alarm: Floats, missed: Floats, clear: Floats) -> Floats:
        positives, negatives = hit + missed, clear + alarm
        both = positives * _f1(hit, alarm, missed) + negatives * _f1(clear, missed, alarm)
        weighted: Floats = both / np.maximum(positives + negatives, 1)
        return weighted

    return _of_counts(labels, scores, threshold, value)


def accuracy_statistic(labels: NDArray[np.integer], scores: NDArray[np.floating], threshold: float) -> Statistic:
    """Return the share of images on the right side of the threshold."""
    return _of_counts(
        labels,
        scores,
        threshold,
        lambda hit, alarm, missed, clear: (hit + clear) / np.maximum(hit + alarm + missed + clear, 1),
    )


def plain(statistic: Statistic, count: int) -> float:
    """Return a statistic of N images that count once each."""
    return float(statistic(np.ones((1, count)))[0])


def _of_counts(
    labels: NDArray[np.integer], scores: NDArray[np.floating], threshold: float, value: Callable[..., Floats]
) -> Statistic:
    """Return `value(hits, alarms, missed, clear)` as a statistic."""
    predicted = np.asarray(scores) >= threshold
    groups = [
        ((labels == truth) & (predicted == said)).astype(np.float64)
        for truth, said in ((1, True), (0, True), (1, False), (0, False))
    ]
    return lambda weights: value(*(weights @ group for group in groups))


def _f1(hit: Floats, alarm: Floats, missed: Floats) -> Floats:
    value: Floats = 2.0 * hit / np.maximum(2.0 * hit + alarm + missed, 1e-12)
    return value
