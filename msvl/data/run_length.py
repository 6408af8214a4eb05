"""Run-length masks of SIIM-ACR Pneumothorax."""

from __future__ import annotations

import numpy as np


def decode_runs(text: str, height: int, width: int) -> np.ndarray:
    """Return a mask [H, W] bool from pairs `start length`.

    A start counts from the end of the run before (the first from 0); pixels go down the columns, from left to right. So
    `1 2 1022 3` on 1024 x 1024 marks (row, column) (1, 0), (2, 0), (1, 1), (2, 1), (3, 1).

    Raises:
        ValueError: A number is missing, negative or no number, or a run ends outside the image.
    """
    columns = np.zeros((width, height), dtype=bool)
    mark_runs(columns, text)
    return columns.T


def mark_runs(columns: np.ndarray, text: str) -> None:
    """Mark the runs of a text in [W, H] bool, the mask on its side. Raises as `decode_runs`."""
    try:
        numbers = [int(part) for part in text.split()]
    except ValueError as error:
        raise ValueError("its runs are not whole numbers") from error
    if not numbers or len(numbers) % 2 or min(numbers) < 0:
        raise ValueError("its runs are not pairs of start and length")
    if sum(numbers) > columns.size:
        width, height = columns.shape
        raise ValueError(f"its runs end at pixel {sum(numbers):,} of {height} x {width}: give the image in full size")
    pixels, place = columns.reshape(-1), 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += start
        pixels[place : place + length] = True
        place += length
