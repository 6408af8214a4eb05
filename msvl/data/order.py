"""The order of samples as pure functions of (seed, position): no state, so a resume only needs the step.

Positions count samples of the endless training sequence; an epoch of n positions is a permutation of all n samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of an epoch: [count] indices."""
    return np.random.Generator(np.random.PCG64([seed, epoch, 0x0DE5])).permutation(count)


def sample_at(position: int, *, seed: int, count: int) -> int:
    """Return the index of the sample at a position of the endless sequence."""
    epoch, place = divmod(position, count)
    return int(permutation(seed, epoch, count)[place])


def rank_positions(step: int, *, global_batch: int, rank: int, world: int) -> range:
    """Return the positions of a rank in a step: p = rank, rank + world, ... of the global batch."""
    return range(step * global_batch + rank, (step + 1) * global_batch, world)


def substitute(position: int, attempt: int, *, seed: int, count: int) -> int:
    """Return the index that fills a position whose sample cannot be read, at the given attempt (from 1)."""
    epoch = position // count
    return int(np.random.Generator(np.random.PCG64([seed, epoch, position, attempt, 0xF111])).integers(count))


def sample_rng(seed: int, epoch: int, sample_id: int, stream: int) -> np.random.Generator:
    """Return the generator of a sample's augmentation (stream 0) or sentence draw (stream 1) in an epoch."""
    return np.random.Generator(np.random.PCG64([seed, epoch, sample_id & 0xFFFFFFFF, sample_id >> 32, stream]))


def step_draw(seed: int, step: int) -> float:
    """Return the uniform number in [0, 1) by which all ranks decide what a step reads."""
    return float(np.random.Generator(np.random.PCG64([seed, step, 0x57E9])).random())
