"""Near-duplicate search: every fingerprint against every other, by one matrix product per block. Exact, no index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

BLOCK = 4096
"""Rows of a block: two blocks of bits and their product take 80 MB."""


@dataclass(frozen=True)
class Nearest:
    """Of each sample, how far the nearest one of the other side is, in bits; `NONE` where none is near enough."""

    first: np.ndarray
    """[n] int32"""
    second: np.ndarray
    """[m] int32"""


NONE = np.iinfo(np.int32).max


def find_nearest(first: np.ndarray, second: np.ndarray, *, within: int, progress: bool = False) -> Nearest:
    """Compare [n, bytes] with [m, bytes] fingerprints (uint8; all zero is no fingerprint).

    Args:
        first: Fingerprints of one side.
        second: Of the other.
        within: Bits that may differ at most; as many that agree at most count too, which is the image in negative.
        progress: Whether to show a bar.
    """
    bits = 8 * first.shape[1]
    best_first = np.full(len(first), -1, dtype=np.float32)
    best_second = np.full(len(second), -1, dtype=np.float32)
    rows, columns = np.flatnonzero(first.any(axis=1)), np.flatnonzero(second.any(axis=1))
    with tqdm(total=len(rows) * len(columns), unit="pair", unit_scale=True, desc="comparing", disable=not progress,
              mininterval=0.5) as bar:  # fmt: skip
        for start in range(0, len(rows), BLOCK):
            chosen = rows[start : start + BLOCK]
            left = _signs(first[chosen])
            for begin in range(0, len(columns), BLOCK):
                others = columns[begin : begin + BLOCK]
                agreement = np.abs(left @ _signs(second[others]).T)
                best_first[chosen] = np.maximum(best_first[chosen], agreement.max(axis=1))
                best_second[others] = np.maximum(best_second[others], agreement.max(axis=0))
                bar.update(len(chosen) * len(others))
    return Nearest(*(_distances(best, bits, within) for best in (best_first, best_second)))


def _signs(prints: np.ndarray) -> np.ndarray:
    """Return [n, bits] float32 of 1 and -1: their product is bits that agree less bits that differ."""
    return np.unpackbits(prints, axis=1).astype(np.float32) * 2 - 1


def _distances(agreement: np.ndarray, bits: int, within: int) -> np.ndarray:
    distance = ((bits - agreement) / 2).astype(np.int32)
    return np.where((agreement >= 0) & (distance <= within), distance, NONE)
