"""Noise without a generator: a counter-based hash, so that a draw depends on its keys and on nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

# Constants of splitmix64 (Steele et al. 2014) as signed 64-bit integers; torch's int64 products wrap around.
_INCREMENT = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_BITS = 24


def hash_uniform(*keys: int | Tensor) -> Tensor:
    """Return uniform float32 numbers in [0, 1), a pure function of the keys.

    Plain int64 operations give the same bits on every device, in any batch and on any number of ranks.

    Args:
        keys: Integers below 2**63 and int64 tensors that broadcast against each other; their order matters.
    """
    state = torch.zeros((), dtype=torch.int64)
    for key in keys:
        # Integers stay 0-D on the CPU: torch mixes such with tensors of any device without a copy.
        state = _mix((state + _INCREMENT) ^ torch.as_tensor(key, dtype=torch.int64))
    return _shift(state, 64 - _BITS).float() / (1 << _BITS)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _FIRST
    value = (value ^ _shift(value, 27)) * _SECOND
    return value ^ _shift(value, 31)
