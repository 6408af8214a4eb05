"""Packed sets -> what is compared: the keyed hashes of their index, and hashes and fingerprints of their images."""

from __future__ import annotations

import numpy as np

from msvl.data.index import key_text
from msvl.data.leaks.group import Argument, Group, Register
from msvl.data.leaks.set_prints import FLAT, UNREADABLE, prints_of
from msvl.data.packed import SPLITS, PackedSet

NUMBERED_BY = {
    "mimic-cxr": "mimic", "mimic-cxr-jpg": "mimic", "ms-cxr": "mimic",
    "nih": "nih", "nih-cxr14": "nih", "rsna": "nih", "siim": "nih",
    "chexpert": "chexpert", "chexpert-plus": "chexpert",
    "iu-xray": "openi", "padchest": "padchest", "rexgradient": "rexgradient", "vindr-cxr": "vindr",
}  # fmt: skip
"""Name of a known source -> who numbers its patients: `1` of one is nobody of another."""


def set_argument(packed: PackedSet, *, workers: int, progress: bool = True) -> Argument:
    """Read what is compared of a packed set. Raises DataError when it is damaged."""
    groups, notes = [], []
    for split in SPLITS:
        if not packed.counts(split)["samples"]:
            continue
        index, prints = packed.split(split), prints_of(packed, split, workers=workers, progress=progress)
        records = index.records
        groups.append(
            Group(
                split=split,
                samples=np.array([key_text(key) for key in records["key"]], dtype=object),
                patients=records["patient"].copy(),
                studies=records["study"].copy(),
                images=prints.records["image"],
                texts=records["text"].copy(),
                prints=prints.records["bits"],
            )
        )
        notes += _split_notes(packed, split, prints.records["state"])
        if prints.kept_in is None:
            notes.append(f"{packed.location}: its fingerprints can be kept nowhere and will be computed again")
    counts = [packed.counts(split) for split in SPLITS]
    if sum(count["samples"] for count in counts) == sum(count["patients"] for count in counts):
        notes.append(
            f"{packed.location}: every image is a patient of its own; where the source names patients, pack it with them"
        )
    return Argument(
        title=str(packed.location),
        groups=tuple(groups),
        kind="set",
        register=_register(packed),
        text_kind="sentences" if packed.manifest.get("caption") is None else "whole",
        notes=tuple(notes),
    )


def _split_notes(packed: PackedSet, split: str, states: np.ndarray) -> list[str]:
    notes = []
    if (states == UNREADABLE).any():
        count = int((states == UNREADABLE).sum())
        notes.append(
            f"{packed.location} {split}: {count:,} images cannot be read and were not compared: see `msvl data verify`"
        )
    if (states == FLAT).any():
        count = int((states == FLAT).sum())
        notes.append(f"{packed.location} {split}: {count:,} images show nothing and have no fingerprint")
    return notes


def _register(packed: PackedSet) -> Register:
    key = packed.manifest["options"].get("id_key")
    if key is None:
        return Register("tars", "", "the fields of tars used in place")
    numbered_by = NUMBERED_BY.get(packed.name, "")
    numbers = f", patients numbered by {numbered_by}" if numbered_by else ""
    if not key:
        return Register(f"name {packed.name}", numbered_by, f"no --id-key, so the name '{packed.name}'{numbers}")
    return Register(f"key {key}", numbered_by, f"an --id-key of hash {key[:6]}{numbers}")
