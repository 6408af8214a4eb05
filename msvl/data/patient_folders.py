"""Folders of patients (`patient00001`) on disk, wherever a data set's archives have put them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msvl.config.errors import DataError

TAIL = re.compile(r"(train|valid|test)/(patient\d{5})/(study\d+)/(view\d+_(frontal|lateral))\.\w+$")
"""End of every path in CheXpert's tables: split, patient, study, view, kind of view."""
_PATIENT = re.compile(r"patient\d{5}")
DEPTH = 5
"""Folders below the root that are looked into at most."""


def patient_folders(root: Path) -> dict[str, str]:
    """Return patient -> its folder relative to `root`, found at any depth up to five.

    So `CheXpert-v1.0-small/train/`, `CheXpert-v1.0 batch 2 (train 1)/` and the nested `PNG/PNG/train/` need no rule of their own.

    Raises:
        DataError: there is none, or a patient has two folders: two copies of the data set lie below.
    """
    found: dict[str, str] = {}
    for name, path in _walk(root, DEPTH):
        if name in found:
            raise DataError(
                f"{root} has two copies of a patient's folder, in {Path(found[name]).parent or '.'} and "
                f"{path.relative_to(root).parent}: name the folder of one copy"
            )
        found[name] = str(path.relative_to(root))
    if not found:
        raise DataError(f"--images {root} has no folders such as train/patient00001 below: unpack the images there")
    return found


def _walk(folder: Path, depth: int) -> Iterator[tuple[str, Path]]:
    inner = []
    with os.scandir(folder) as items:
        for item in items:
            if item.is_dir():
                if _PATIENT.fullmatch(item.name):
                    yield item.name, Path(item.path)
                else:
                    inner.append(Path(item.path))
    if depth > 1:
        for path in sorted(inner):
            yield from _walk(path, depth - 1)
