"""A share of the training labels, drawn by patient: nested, so that what 1 % knows 10 % knows too.

The published 1 % lists are not inside their 10 % lists, so their curves mix luck with labels; a packed set made from a
published list is used as it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def label_subset(patients: Sequence[str], ratio: str, seed: int) -> NDArray[np.int64]:
    """Return the rows of `ratio` percent of the images, patients whole, in order of a hash of patient and seed.

    Args:
        patients: [N] patient of each image.
        ratio: '1', '10' or '100'.
        seed: Another seed draws other patients.

    Returns:
        Ascending rows: at least ratio * N / 100 images, and less than one patient more.
    """
    wanted = math.ceil(int(ratio) * len(patients) / 100)
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows.setdefault(patient, []).append(row)
    chosen: list[int] = []
    for patient in sorted(rows, key=lambda name: hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()):
        if len(chosen) >= wanted:
            break
        chosen += rows[patient]
    return np.sort(np.asarray(chosen, dtype=np.int64))
