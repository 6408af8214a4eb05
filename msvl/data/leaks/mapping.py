"""Which images of RSNA Pneumonia and SIIM-ACR are which ones of NIH ChestX-ray14, from a file that the user has."""

from __future__ import annotations

import logging
from pathlib import Path

from msvl.config.errors import DataError
from msvl.data.leaks.layouts import base_name, read_name
from msvl.data.leaks.list_file import read_records
from msvl.data.nih_matches import ERROR_COLUMN, WARNING, is_doubtful

logger = logging.getLogger(__name__)


def read_mapping(path: Path) -> dict[str, str]:
    """Return base name of an image -> name of the NIH image, from a CSV or from the JSON that RSNA published.

    In a row that names an NIH image, every other value that stands in no row of another image is a name of it.

    Raises DataError when no row names an NIH image. Warns of matches that are doubtful.
    """
    if not path.is_file():
        raise DataError(f"--mapping {path}: there is no such file")
    _, records = read_records(path)
    found: dict[str, str] = {}
    shared: set[str] = set()
    doubtful = 0
    for number, record in enumerate(records, start=1):
        error = next((record.pop(name) for name in list(record) if name.casefold() == ERROR_COLUMN), None)
        doubtful += is_doubtful(error, f"{path}, record {number}")
        values = [str(value).strip() for value in record.values() if value is not None and str(value).strip()]
        target = next((value for value in values if _is_nih(value)), None)
        if target is None:
            continue
        for name in {base_name(value) for value in values}:
            if found.setdefault(name, target) != target:
                shared.add(name)
    if not found:
        raise DataError(f"--mapping {path}: no row names an image of NIH ChestX-ray14, such as 00000001_000.png")
    if doubtful:
        logger.warning(WARNING, path, doubtful)
    # Labels, ages and patients stand beside many images.
    return {name: target for name, target in found.items() if name not in shared}


def _is_nih(value: str) -> bool:
    name = read_name(value)
    return name is not None and name.image.startswith("nih/")
