"""Calibration against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import _sigmoid_calibration, calibration_curve
from sklearn.metrics import brier_score_loss

from msvl.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    fit_platt,
    reliability,
)


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = (generator.random(2000) < 0.35).astype(np.int64)
    return labels, generator.normal(size=2000) + 1.5 * labels


def test_platt_is_scikit_learns(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    slope, offset = _sigmoid_calibration(scores, labels)  # 1 / (1 + exp(slope * score + offset))
    found = fit_platt(labels, scores)
    assert (found.slope, found.offset) == pytest.approx((-slope, -offset), abs=1e-3)


def test_platt_of_separable_scores_stays_finite() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([-2.0, -1.0, 1.0, 2.0])
    probabilities = fit_platt(labels, scores)(scores)
    assert np.isfinite(probabilities).all()
    assert (np.diff(probabilities) > 0).all()


def test_platt_of_a_blind_model_is_the_prevalence() -> None:
    labels = np.array([1, 0, 0, 0] * 50)
    assert fit_platt(labels, np.zeros(200))(np.zeros(3)) == pytest.approx([0.25] * 3, abs=0.01)


@pytest.mark.evidence("Reliability, Brier score and Platt's map equal scikit-learn's", how="cpu")
def test_reliability_is_scikit_learns(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    probabilities = fit_platt(labels, scores)(scores)
    table = reliability(labels, probabilities)
    happened, said = calibration_curve(labels, probabilities, n_bins=10)
    filled = table.count > 0
    assert table.happened[filled] == pytest.approx(happened)
    assert table.said[filled] == pytest.approx(said)
    assert brier_score(labels, probabilities) == pytest.approx(brier_score_loss(labels, probabilities))


def test_expected_calibration_error_by_hand() -> None:
    # Bin 1: says .15 twice, happens half the time; bin 9: says .95, happens.
    table = reliability(np.array([0, 1, 1]), np.array([0.15, 0.15, 0.95]))
    assert expected_calibration_error(table) == pytest.approx((2 * 0.35 + 1 * 0.05) / 3)


def test_probability_one_falls_into_the_last_bin() -> None:
    assert reliability(np.array([1]), np.array([1.0])).count.tolist() == [0] * 9 + [1]


def test_unknown_labels_never_count() -> None:
    labels, probabilities = np.array([1, 0, -1, -2]), np.array([0.9, 0.1, 0.9, 0.9])
    assert reliability(labels, probabilities).count.sum() == 2
    assert brier_score(labels, probabilities) == pytest.approx(0.01)
