"""Does a score of 0.7 mean seven of ten? Scores are first mapped to probabilities on validation labels (Platt 1999).

N images, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msvl.evaluation.metrics import Floats, Ints

BINS = 10


@dataclass(frozen=True)
class Platt:
    """Probability = logistic(slope * score + offset)."""

    slope: float
    offset: float

    def __call__(self, scores: NDArray[np.floating]) -> Floats:
        """Map scores [N] to probabilities [N]."""
        logits = self.slope * np.asarray(scores, dtype=np.float64) + self.offset
        values: Floats = np.where(logits >= 0, 1.0, np.exp(-np.abs(logits))) / (1.0 + np.exp(-np.abs(logits)))
        return values


def fit_platt(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> Platt:
    """Fit the map by maximum likelihood with Platt's targets, which keep separable scores finite.

    Args:
        labels: [N] of 1 and 0, both present; anything else is skipped.
        scores: [N].
    """
    known = np.isin(labels, (0, 1))
    positive, values = labels[known] == 1, np.asarray(scores, dtype=np.float64)[known]
    ups, downs = positive.sum(), (~positive).sum()
    targets = np.where(positive, (ups + 1) / (ups + 2), 1 / (downs + 2))
    centre, spread = values.mean(), values.std() + 1e-12
    inputs = np.stack([(values - centre) / spread, np.ones_like(values)], axis=1)
    weights = np.array([0.0, np.log(targets.mean() / (1 - targets.mean()))])
    for _ in range(100):  # Newton's steps on a convex function of two numbers, damped by a tiny ridge
        probabilities = Platt(1.0, 0.0)(inputs @ weights)
        gradient = inputs.T @ (probabilities - targets)
        curvature = (inputs * (probabilities * (1 - probabilities))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    slope = weights[0] / spread
    return Platt(slope=float(slope), offset=float(weights[1] - slope * centre))


@dataclass(frozen=True)
class Reliability:
    """What was said and what happened, per bin of equal width; nan where a bin is empty. Each [K]."""

    said: Floats
    """Mean probability."""
    happened: Floats
    """Share of positives."""
    count: Ints


def reliability(labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = BINS) -> Reliability:
    """Sort probabilities [N] into bins of equal width over [0, 1]; only labels 1 and 0 count."""
    known = np.isin(labels, (0, 1))
    positive, values = (labels[known] == 1).astype(np.float64), np.asarray(probabilities, dtype=np.float64)[known]
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(place, weights=values, minlength=bins) / count
        happened = np.bincount(place, weights=positive, minlength=bins) / count
    return Reliability(said=said, happened=happened, count=count)


def expected_calibration_error(table: Reliability) -> float:
    """Return the mean distance between what was said and what happened, weighted by the images in each bin."""
    filled = table.count > 0
    distance = np.abs(table.said[filled] - table.happened[filled])
    return float((distance * table.count[filled]).sum() / table.count.sum())


def brier_score(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Return the mean squared distance between probability and label; only labels 1 and 0 count."""
    known = np.isin(labels, (0, 1))
    return float(np.mean((np.asarray(probabilities)[known] - labels[known]) ** 2))
