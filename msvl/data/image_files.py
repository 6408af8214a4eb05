"""A radiograph's file, whatever its kind: PNG, JPEG or DICOM."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from msvl.config.errors import DataError
from msvl.data.images import read_reduced

DICOM_NAMES = (".dcm", ".dicom", ".dcm.gz", ".dicom.gz")


def is_dicom(path: Path) -> bool:
    """Tell by the name whether a file is DICOM."""
    return path.name.lower().endswith(DICOM_NAMES)


def read_radiograph(
    path: Path, where: str, *, at_least: int = 0, window: int = 1
) -> tuple[np.ndarray, tuple[int, int], dict[str, str]]:
    """Read a file as `read_reduced` or `read_dicom` does.

    Returns:
        The image, the (height, width) that it has in full, and of DICOM files the facts of the header.

    Raises:
        DataError: The file is missing or cannot be decoded; names `where`, the file and the cure.
    """
    if not is_dicom(path):
        return (*read_reduced(path, where, at_least), {})
    # pydicom takes a third of a second to import, which packing PNG and JPEG need not wait for.
    from msvl.data.dicom import read_dicom

    found = read_dicom(path, where, window=window, at_least=at_least)
    return found.pixels, found.full_size, found.facts


def add_window(parser: argparse.ArgumentParser) -> None:
    """Add --window."""
    parser.add_argument(
        "--window",
        type=int,
        default=1,
        metavar="NUMBER",
        help="which of a DICOM file's windows or VOI LUTs to apply, 0 for none (default: the first, where there is one)",
    )


def check_window(window: int) -> int:
    """Return --window. Raises DataError when it is negative."""
    if window < 0:
        raise DataError(f"--window {window}: give the number of a window, from 1, or 0 for none")
    return window
