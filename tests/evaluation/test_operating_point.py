"""Thresholds, F1 and accuracy against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_curve

from msvl.evaluation.operating_point import (
    accuracy_statistic,
    choose_threshold,
    f1_statistic,
    plain,
    weighted_f1_statistic,
)


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    labels = (generator.random(300) < 0.3).astype(np.int64)
    return labels, np.round(generator.normal(size=300) + labels, 1)  # rounded: many ties


def test_youden_threshold_is_scikit_learns(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    false_alarms, hits, thresholds = roc_curve(labels, scores)
    assert choose_threshold(labels, scores, "youden") == thresholds[np.argmax(hits - false_alarms)]


def test_f1_threshold_is_the_best_of_all(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    every = {value: f1_score(labels, scores >= value) for value in np.unique(scores)}
    chosen = choose_threshold(labels, scores, "f1")
    assert every[chosen] == pytest.approx(max(every.values()))


@pytest.mark.evidence("F1 and accuracy equal scikit-learn's, at a threshold chosen on validation labels", how="cpu")
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.7, 99.0])
def test_figures_are_scikit_learns(scored: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    labels, scores = scored
    said = scores >= threshold
    count = len(labels)
    assert plain(f1_statistic(labels, scores, threshold), count) == pytest.approx(f1_score(labels, said))
    assert plain(accuracy_statistic(labels, scores, threshold), count) == pytest.approx(accuracy_score(labels, said))
    assert plain(weighted_f1_statistic(labels, scores, threshold), count) == pytest.approx(
        f1_score(labels, said, average="weighted")
    )


def test_unknown_labels_never_count(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    more_labels, more_scores = np.r_[labels, [-1, -2]], np.r_[scores, [50.0, -50.0]]
    assert choose_threshold(more_labels, more_scores, "youden") == choose_threshold(labels, scores, "youden")
    assert plain(accuracy_statistic(more_labels, more_scores, 0.0), 302) == plain(
        accuracy_statistic(labels, scores, 0.0), 300
    )


def test_weights_count_images_as_often_as_they_are_drawn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    times = np.random.default_rng(0).integers(0, 4, 300)
    drawn = np.repeat(np.arange(300), times)
    expected = f1_score(labels[drawn], scores[drawn] >= 0.5)
    assert f1_statistic(labels, scores, 0.5)(times[None].astype(float))[0] == pytest.approx(expected)
