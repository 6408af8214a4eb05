"""Random numbers as pure functions of (seed, epoch, sample): nothing to save, and a whole batch at once.

SplitMix64 (Steele et al., OOPSLA 2014) over a hash of the three: making a generator per sample would cost 20 us of a
sample's 650.
"""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
AUGMENTATION, SENTENCES = 0, 1
"""Streams of a sample's numbers in an epoch: each has its own."""
_STEP = np.uint64(GOLDEN)


def draws(seed: int, epochs: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return a hash of (seed, epoch, name): [m] uint64."""
    key = np.uint64((seed * GOLDEN) & 0xFFFFFFFFFFFFFFFF)
    mixed = _mixed(names.astype(np.uint64) ^ key)
    return _mixed(mixed + epochs.astype(np.uint64) * _STEP)


def stream_states(seed: int, epochs: np.ndarray, samples: np.ndarray, stream: int) -> np.ndarray:
    """Return where the numbers of [m] samples begin in a stream: [m] uint64, for `uniform`."""
    return _mixed(draws(seed, epochs, samples) + np.uint64(stream))


def uniform(states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the numbers-th numbers in [0, 1) of streams: float64, both broadcast."""
    values = _mixed(states + (numbers.astype(np.uint64) + np.uint64(1)) * _STEP)
    return (values >> np.uint64(11)) * 2.0**-53


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
