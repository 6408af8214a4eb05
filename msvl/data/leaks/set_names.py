"""Packed sets -> what is compared: the keyed hashes of their index, and hashes and fingerprints of their images."""

from __future__ import annotations

import numpy as np

from msvl.data.index import key_text
from msvl.data.leaks.confirm import Details
from msvl.data.leaks.group import Argument, Group, Register
from msvl.data.leaks.set_prints import FLAT, UNREADABLE, prints_of
from msvl.data.packed import SPLITS, PackedSet

UNNAMED = ("table", "tars")
"""Names that sets have when the user names none: they say nothing about who numbers the patients."""


def set_argument(packed: PackedSet, *, workers: int, progress: bool = True) -> Argument:
    """Read what is compared of a packed set. Raises DataError when it is damaged."""
    groups, notes, known = [], [], _names_patients(packed)
    for split in SPLITS:
        if not packed.counts(split)["samples"]:
            continue
        index, prints = packed.split(split), prints_of(packed, split, workers=workers, progress=progress)
        records = index.records
        groups.append(
            Group(
                split=split,
                samples=np.array([key_text(key) for key in records["key"]], dtype=object),
                patients=records["patient"].copy() if known else np.zeros(len(records), dtype=np.uint64),
                studies=records["study"].copy(),
                images=prints.records["image"],
                texts=records["text"].copy(),
                prints=prints.records["bits"],
                detail=Details(index),
            )
        )
        notes += _split_notes(packed, split, prints.records["state"])
        if prints.kept_in is None:
            notes.append(f"{packed.location}: its fingerprints can be kept nowhere and will be computed again")
    if not known:
        notes.append(
            f"{packed.location}: its patients are not known; pack it with --patient-column (`msvl data index`: --patient-field)"
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


def _names_patients(packed: PackedSet) -> bool:
    """Return whether the user of a table or of tars in place named what holds the patients; other sources know them."""
    source = packed.manifest["source"]
    if packed.manifest.get("caption") is not None:
        return source["patient"] is not None
    return "columns" not in source or source["columns"]["patient"] is not None


def _register(packed: PackedSet) -> Register:
    space = "" if packed.id_space in UNNAMED else packed.id_space
    numbers = f"ids of '{space}'" if space else "ids of nobody stated"
    if packed.manifest.get("caption") is not None:
        return Register("tars", space, f"{numbers} in tars used in place", packed.fingerprint)
    key = packed.manifest["options"]["id_key"]
    about = f"{numbers} and {f'an --id-key (its hash begins {key[:6]})' if key else 'no --id-key'}"
    return Register(f"key {key}", space, about, packed.fingerprint)
