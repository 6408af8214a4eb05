"""Percentile bootstrap over patients: a patient's samples are drawn together, because they are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msvl.evaluation.metrics import Floats, weighted_auc

Statistic = Callable[[Floats], Floats]
"""Resample weights [R, N] -> one value per resample [R]; nan where it is undefined."""


@dataclass(frozen=True)
class NoInterval:
    """The data give no interval."""

    reason: str


Interval = tuple[float, float] | NoInterval | None
"""Lower and upper end; or why there is none; or None when intervals are turned off."""

CHUNK_ELEMENTS = 4_000_000
"""Weights held at once (32 MB of float64): 1,000 resamples of 22,000 images would be 176 MB."""


class Bootstrap:
    """Draws patients with replacement and gives intervals of any weighted statistic of their samples.

    Equal arguments give equal draws, so that the trained and the untrained model are judged on the same resamples.
    """

    def __init__(self, patients: Sequence[str], *, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> None:
        """Remember who belongs to whom.

        Args:
            patients: [N] patient of each sample.
            resamples: Number of draws; 0 turns intervals off.
            seed: Seed of the draws.
            level: Coverage of the interval.
        """
        names, self._patient_of_sample = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        self.num_patients = len(names)
        self.resamples = resamples
        self._seed = seed
        self._level = level

    def interval(self, statistic: Statistic) -> Interval:
        """Return the percentile interval of `statistic`.

        Resamples in which it is undefined (a class is absent) are left out; when most are, there is no interval.
        """
        if not self.resamples:
            return None
        if self.num_patients < 2:
            return NoInterval("fewer than two patients")
        values = np.concatenate([statistic(weights) for weights in self._weights()])
        defined = values[np.isfinite(values)]
        if 2 * len(defined) <= self.resamples:
            return NoInterval(
                f"only {len(defined):,} of {self.resamples:,} resamples of the patients have both classes of every finding"
            )
        tail = (1.0 - self._level) / 2
        low, high = np.quantile(defined, [tail, 1.0 - tail])
        return float(low), float(high)

    def _weights(self) -> Iterator[Floats]:
        """Yield [r, N] blocks of how often each sample is drawn."""
        generator = np.random.default_rng(self._seed)
        num = self.num_patients
        rows = max(1, CHUNK_ELEMENTS // len(self._patient_of_sample))
        for start in range(0, self.resamples, rows):
            count = min(rows, self.resamples - start)
            drawn = generator.integers(0, num, size=(count, num)) + num * np.arange(count)[:, None]
            times = np.bincount(drawn.ravel(), minlength=count * num).reshape(count, num)
            yield times[:, self._patient_of_sample].astype(np.float64)


def mean_statistic(values: NDArray[np.floating]) -> Statistic:
    """Return the weighted mean of per-sample values [N] as a statistic."""
    column = np.asarray(values, dtype=np.float64)

    def statistic(weights: Floats) -> Floats:
        means: Floats = (weights @ column) / weights.sum(axis=1)
        return means

    return statistic


def known_mean_statistic(values: NDArray[np.floating]) -> Statistic:
    """Return the weighted mean of the values [N] that are not nan, as a statistic; nan where none of them is drawn."""
    known = np.isfinite(values)
    column = np.asarray(values, dtype=np.float64)[known]

    def statistic(weights: Floats) -> Floats:
        own = weights[:, known]
        with np.errstate(invalid="ignore"):
            means: Floats = (own @ column) / own.sum(axis=1)
        return means

    return statistic


def auc_statistic(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> Statistic:
    """Return the AUC of the samples with a known label (1 or 0; others are skipped) as a statistic.

    Args:
        labels: [N], anything but 1 and 0 is unknown.
        scores: [N].
    """
    known = np.isin(labels, (0, 1))
    return lambda weights: weighted_auc(labels[known], scores[known], weights[:, known])


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """Return the plain mean of statistics evaluated on the same resample (the macro average over findings)."""
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)
