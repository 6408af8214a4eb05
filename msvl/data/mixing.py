"""Which source a position reads when several are mixed by weight: a pure function of the position.

A schedule of 1,000 slots gives each source its share, always to the source that is furthest behind; lane s begins at
slot 1000 s / S, so that a global batch mixes the sources too. The c-th use of source k in lane s reads position c * S + s of
that source's own sequence: every position once, lane by lane, whatever the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SLOTS = 1000
"""Shares are exact to a thousandth."""


def schedule(weights: Sequence[float]) -> np.ndarray:
    """Return the source of each slot: [SLOTS] int64. Weights are positive and need no certain sum."""
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    used = np.zeros(len(shares))
    slots = np.empty(SLOTS, dtype=np.int64)
    for slot in range(SLOTS):
        slots[slot] = np.argmax(shares * (slot + 1) - used)
        used[slots[slot]] += 1
    return slots


class Mix:
    """The schedule in all lanes."""

    def __init__(self, weights: Sequence[float], lanes: int) -> None:
        self._lanes = lanes
        self._slots = schedule(weights)
        uses = self._slots[:, None] == np.arange(len(weights))
        self._before = np.concatenate([np.zeros((1, len(weights)), dtype=np.int64), np.cumsum(uses, axis=0)])
        """[SLOTS + 1, sources] uses of a source in the slots before."""

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ([m] source, [m] position in the source's own sequence) of [m] positions."""
        depths, lanes = np.divmod(positions, self._lanes)
        start = lanes * SLOTS // self._lanes
        cycles, slot = np.divmod(start + depths, SLOTS)
        sources = self._slots[slot]
        uses = cycles * self._before[-1, sources] + self._before[slot, sources] - self._before[start, sources]
        return sources, uses * self._lanes + lanes
