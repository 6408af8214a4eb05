"""Validation patients for data sets whose official split has only training and test."""

from __future__ import annotations

from msvl.config.errors import DataError
from msvl.data.identity import keyed_hash


def train_or_val(patient: str, val_share: float, id_space: str) -> str:
    """Return `val` for about `val_share` of the patients of the official training split, else `train`.

    A function of the patient alone: the same in sets that are cut from one collection, and whatever else is packed.
    """
    if not 0 <= val_share < 1:
        raise DataError(f"--val-share {val_share:g}: give a share from 0 to below 1")
    place = int(keyed_hash(f"validation/{patient}", id_space), 16) / 16**16
    return "val" if place < val_share else "train"
