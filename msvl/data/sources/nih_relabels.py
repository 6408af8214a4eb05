"""Labels that radiologists of Google gave again to a part of NIH ChestX-ray14 (Majkowska et al., Radiology 2020)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.label_states import label_states
from msvl.data.shown import shown_cell
from msvl.data.study import Entry

logger = logging.getLogger(__name__)
FINDINGS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
SETS = {"val": "val", "valid": "val", "validation": "val", "test": "test"}
"""`Set Id` in lower case -> split."""


@dataclass(frozen=True)
class Relabelled:
    """What the table says of an image."""

    split: str
    labels: dict[str, int | None]
    where: str


def read_relabels(path: Path) -> dict[str, Relabelled]:
    """Return image -> its four labels and its set. Raises DataError naming the row."""
    found: dict[str, Relabelled] = {}
    for number, row in read_rows(path, ("Image Index", *FINDINGS, "Set Id")):
        where = place(path, number)
        split = SETS.get(row["Set Id"].lower())
        if split is None:
            raise DataError(f"{where}: Set Id is {shown_cell(row['Set Id'])}; expected val or test")
        if row["Image Index"] in found:
            raise DataError(f"{where}: its image has a row above already; download the table again")
        found[row["Image Index"]] = Relabelled(split, label_states(row, FINDINGS, where), where)
    return found


def relabel(
    rows: Iterable[tuple[str, Entry]], relabels: Mapping[str, Relabelled], official: Mapping[str, str]
) -> Iterator[tuple[str, Entry]]:
    """Yield the images of the table with its labels and sets in the place of NIH's; all others are left out.

    Says how many images of its test set are training images of the official split: what learnt from those must not be judged
    here.

    Args:
        rows: (view group, entry) of all images.
        relabels: As read.
        official: Image -> train or test of the official split.

    Raises:
        DataError: The table names an image that NIH's table does not have.
    """
    missing = dict(relabels)
    for group, entry in rows:
        if own := missing.pop(entry.image, None):
            yield group, replace(entry, split=own.split, labels=own.labels)
    if missing:
        first = next(iter(missing.values()))
        raise DataError(
            f"{first.where}: NIH's table has no such image, nor {len(missing) - 1:,} others: take whole tables"
        )
    trained = sum(own.split == "test" and official[image] == "train" for image, own in relabels.items())
    if trained:
        logger.warning(
            "%d images of the relabelled test set are in train_val_list.txt: models that learnt from NIH's training images have seen "
            "them; compare both packed sets with `msvl data leaks`",
            trained,
        )
