"""Near-duplicate search: every fingerprint against every other, by one matrix product per block. Exact, no index."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

BLOCK = 4096
"""Rows of a block: two blocks of bits and their product take 80 MB."""


def find_pairs(first: np.ndarray, second: np.ndarray, *, within: int, progress: bool = False) -> np.ndarray:
    """Compare [n, bytes] with [m, bytes] fingerprints (uint8; all zero is no fingerprint).

    Args:
        first: Fingerprints of one side.
        second: Of the other.
        within: Bits that may differ at most; as many that agree at most count too, which is the image in negative.
        progress: Whether to show a bar.

    Returns:
        [k, 2] int64: rows of the first and the second side that are within, in ascending order.
    """
    least = 8 * first.shape[1] - 2 * within
    rows, columns = np.flatnonzero(first.any(axis=1)), np.flatnonzero(second.any(axis=1))
    found = [np.empty((0, 2), dtype=np.int64)]
    with tqdm(total=len(rows) * len(columns), unit="pair", unit_scale=True, desc="comparing", disable=not progress,
              mininterval=0.5) as bar:  # fmt: skip
        for start in range(0, len(rows), BLOCK):
            chosen = rows[start : start + BLOCK]
            left = _signs(first[chosen])
            for begin in range(0, len(columns), BLOCK):
                others = columns[begin : begin + BLOCK]
                one, other = np.nonzero(np.abs(left @ _signs(second[others]).T) >= least)
                found.append(np.stack([chosen[one], others[other]], axis=1))
                bar.update(len(chosen) * len(others))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _signs(prints: np.ndarray) -> np.ndarray:
    """Return [n, bits] float32 of 1 and -1: their product is bits that agree less bits that differ."""
    return np.unpackbits(prints, axis=1).astype(np.float32) * 2 - 1
