"""How a matrix of own images against all reports is cut into blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

PairRows = Callable[..., Tensor]
"""Rows of own pairs (a slice; all by default) -> [r, G] bool, each own pair's place among them."""
BLOCK_ELEMENTS = 2**22
"""Entries of a block: 16 MB in fp32."""


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of rows of a matrix [rows, columns], each with at most BLOCK_ELEMENTS entries (at least one row)."""
    size = max(1, BLOCK_ELEMENTS // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
