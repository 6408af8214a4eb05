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
    try:
        numbers = [int(part) for part in text.split()]
    except ValueError as error:
        raise ValueError("its runs are not whole numbers") from error
    if not numbers or len(numbers) % 2 or min(numbers) < 0:
        raise ValueError("its runs are not pairs of start and length")
    end = sum(numbers)
    if end > height * width:
        raise ValueError(f"its runs end at pixel {end:,} of {height} x {width}: give the image in full size")
    mask = np.zeros(height * width, dtype=bool)
    mask[:end] = np.repeat(np.arange(len(numbers)) % 2 == 1, numbers)
    return mask.reshape(width, height).T
