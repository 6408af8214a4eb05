"""A radiograph's file, whatever its kind: PNG, JPEG or DICOM."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msvl.config.errors import DataError
from msvl.data.images import read_reduced

DICOM_NAMES = (".dcm", ".dicom", ".dcm.gz", ".dicom.gz")


def is_dicom(path: Path) -> bool:
    """Tell by the name whether a file is DICOM."""
    return path.name.lower().endswith(DICOM_NAMES)


@dataclass(frozen=True)
class Decoding:
    """How the files of a source are read."""

    at_least: int = 0
    """Short side in pixels that JPEGs may be reduced to; 0 reads the whole."""
    window: int = 1
    """Which of a DICOM file's windows or VOI LUTs to apply, from 1; 0 for none."""
    depth: int = 16
    """8 maps deeper values of DICOM to 8 bits; of other files they stay, to be mapped by who packs them."""

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Decoding:
        """Read the options of packing. Raises DataError when --window is negative."""
        if arguments.window < 0:
            raise DataError(f"--window {arguments.window}: give the number of a window, from 1, or 0 for none")
        return cls(arguments.short_side, arguments.window, arguments.depth)


AS_IT_IS = Decoding()
"""The whole image by its first window."""


def read_radiograph(
    path: Path, where: str, decoding: Decoding = AS_IT_IS
) -> tuple[np.ndarray, tuple[int, int], dict[str, str]]:
    """Read a file as `read_reduced` or `read_dicom` does.

    Returns:
        The image, the (height, width) that it has in full, and of DICOM files the facts of the header.

    Raises:
        DataError: The file is missing or cannot be decoded; names `where`, the file and the cure.
    """
    if not is_dicom(path):
        return (*read_reduced(path, where, decoding.at_least), {})
    # pydicom takes a third of a second to import, which packing PNG and JPEG need not wait for.
    from msvl.data.dicom import read_dicom

    found = read_dicom(path, where, window=decoding.window, at_least=decoding.at_least, depth=decoding.depth)
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
