"""Where a patch lies, as numbers: sine-cosine tables, and learned tables moved to another grid."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional


def sine_cosine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return the 2D table of MAE (He et al. 2022): half of the channels code the column, half the row.

    Args:
        rows: Patches per column of the image.
        columns: Patches per row of the image.
        width: Channels, a multiple of 4.

    Returns:
        [rows * columns, width] float32, row-major.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    parts = []
    for coordinate in (column, row):
        angles = coordinate.reshape(-1, 1) * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1).float()


def resize_positions(table: Tensor, *, grid: int, prefix: int) -> Tensor:
    """Move a learned table of square images to another grid by bicubic interpolation (DINO's and transformers' way).

    Args:
        table: [1, prefix + old * old, F].
        grid: New patches per side.
        prefix: Tokens before the patches (CLS), kept as they are.

    Returns:
        [1, prefix + grid * grid, F]; `table` itself when the grid is the same.
    """
    old = round((table.shape[1] - prefix) ** 0.5)
    if old == grid:
        return table
    patches = rearrange(table[:, prefix:], "one (rows columns) f -> one f rows columns", rows=old)
    resized = functional.interpolate(patches.float(), size=(grid, grid), mode="bicubic", align_corners=False)
    moved = rearrange(resized, "one f rows columns -> one (rows columns) f").to(table.dtype)
    return torch.cat([table[:, :prefix], moved], dim=1)
