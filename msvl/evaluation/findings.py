"""AUC over findings as zero-shot, the linear probe and the pixel baseline report it, with intervals over patients.

N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from msvl.evaluation.bootstrap import Bootstrap, Interval, auc_statistic, mean_of
from msvl.evaluation.material import Figures, put
from msvl.evaluation.metrics import Floats, auc

Labels = Mapping[str, NDArray[np.int64]]
"""Finding -> [N] of 1 present, 0 absent; anything else is uncertain or unknown and never counts."""

NOTHING_FOUND = frozenset({"no finding", "no findings", "normal", "healthy"})
"""Labels that say that nothing was found (NIH, CheXpert, VinDr, RSNA, PadChest): no finding to ask for by a prompt, and never part of
a published mean."""


def chosen_findings(labels: Labels, wanted: Sequence[str] = ()) -> list[str]:
    """Return the wanted findings that have labels; without a wish all but those that say that nothing was found."""
    if wanted:
        return [name for name in labels if name in wanted]
    return [name for name in labels if name.replace("_", " ").lower() not in NOTHING_FOUND]


def judgeable(labels: Labels) -> list[str]:
    """Return the findings that have both positives and negatives, in their own order."""
    return [name for name, values in labels.items() if (values == 1).any() and (values == 0).any()]


def judgeable_findings(labels: Labels) -> list[str]:
    """Return the judgeable findings that a mean is over: labels that say that nothing was found are left out."""
    named = chosen_findings(labels)
    return [name for name in judgeable(labels) if name in named]


def known_auc(labels: NDArray[np.int64], scores: Floats) -> float:
    """Return the AUC of the images whose label is known."""
    known = np.isin(labels, (0, 1))
    return auc(labels[known], scores[known])


def macro_auc(labels: Labels, scores: Mapping[str, Floats], bootstrap: Bootstrap) -> tuple[float, Interval]:
    """Return the mean AUC over the findings in `scores`, and its interval."""
    value = np.mean([known_auc(labels[name], column) for name, column in scores.items()])
    statistics = [auc_statistic(labels[name], column) for name, column in scores.items()]
    return float(value), bootstrap.interval(mean_of(statistics))


def auc_figures(labels: Labels, scores: Mapping[str, Floats], bootstrap: Bootstrap) -> Figures:
    """Return `auc_mean`, `auc` per finding, their intervals, and how many positives and negatives there were.

    Args:
        labels: Labels of at least the scored findings.
        scores: Finding -> [N].
        bootstrap: Over the patients of the N images.
    """
    figures: Figures = {}
    put(figures, "auc_mean", *macro_auc(labels, scores, bootstrap))
    figures["auc"] = {name: known_auc(labels[name], column) for name, column in scores.items()}
    found = {name: bootstrap.interval(auc_statistic(labels[name], column)) for name, column in scores.items()}
    intervals = {name: list(interval) for name, interval in found.items() if isinstance(interval, tuple)}
    if intervals:
        figures["auc_interval"] = intervals
    figures["positives"] = {name: int((labels[name] == 1).sum()) for name in scores}
    figures["negatives"] = {name: int((labels[name] == 0).sum()) for name in scores}
    return figures
