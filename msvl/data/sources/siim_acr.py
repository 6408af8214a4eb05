"""SIIM-ACR Pneumothorax (Kaggle 2019): DICOM with run-length masks, or their copy in PNG."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.patient_facts import patient_facts
from msvl.data.run_length import mark_runs
from msvl.data.sources.siim_acr_png import FINDING, IMAGES, SiimAcrPngSource, SiimAcrSet
from msvl.data.study import Entry, Record
from msvl.data.view_names import view_name

EXAMPLE = "msvl data pack siim-acr --images siim --out shards/siim"
TABLES = ("train-rle.csv", "stage_2_train.csv")
NO_MASK = "-1"


class SiimAcrSource(SiimAcrSet):
    """One entry per image with a row in the table, in the folders of the original or the flat one of later uploads."""

    def __init__(self, root: Path, *, table: Path | None = None, decoding: Decoding = AS_IT_IS) -> None:
        """Raise DataError when folder or table are not there.

        Args:
            root: Folder below which the DICOM files lie, in any folders.
            table: One of TABLES; None looks for it in the folder.
            decoding: How files are read.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        self._root, self._table = root, table or _find_table(root)
        self._decoding = decoding

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {"table": self._table.name, "window": self._decoding.window}

    def entries(self) -> list[Entry]:
        """List the images of the table; the patient of each stands in its DICOM header. Raises DataError naming row or file."""
        paths = _index_images(self._root)
        return [self._entry(image, *found, paths) for image, found in _read_runs(self._table).items()]

    def record(self, entry: Entry) -> Record:
        """Read one image and join its masks. Raises DataError naming the row of a mask that does not fit."""
        image, full_size, facts = read_radiograph(self._root / entry.payload["path"], entry.where, self._decoding)
        # An empty mask may be small.
        columns = np.zeros((full_size if entry.payload["runs"] else image.shape)[::-1], dtype=bool)
        for where, runs in entry.payload["runs"]:
            try:
                mark_runs(columns, runs)
            except ValueError as error:
                raise DataError(f"{where}: {error}") from error
        return Record(
            image,
            view=_view(facts),
            labels=entry.labels,
            masks={FINDING: columns.T},
            full_size=full_size,
            extra=patient_facts(sex=facts.get("PatientSex", ""), age=facts.get("PatientAge", "")),
        )

    def _entry(self, image: str, where: str, runs: list[tuple[str, str]], paths: dict[str, Path]) -> Entry:
        path, patient, study = paths.get(image), image, image
        if path:
            # Late: only packing of DICOM needs pydicom.
            from msvl.data.dicom import read_patient_id

            patient = read_patient_id(self._root / path) or image
            study = path.parts[-3] if len(path.parts) > 3 else image
        payload = {"path": str(path or f"{image}.dcm"), "runs": runs}
        return Entry(patient, study, image, where, None, payload, view="frontal", labels={FINDING: int(bool(runs))})


def _view(facts: dict[str, str]) -> str:
    """Return the view that ViewPosition or a SeriesDescription of `view: PA` says."""
    said = re.fullmatch(r"view:\s*(\S+)", facts.get("SeriesDescription", ""))
    return view_name(facts.get("ViewPosition") or (said[1] if said else "frontal"))


def _find_table(root: Path) -> Path:
    found = [root / name for name in TABLES if (root / name).is_file()]
    if not found:
        raise DataError(f"--images {root} has no {' or '.join(TABLES)}: download it into this folder")
    if len(found) > 1:
        raise DataError(f"--images {root} has {' and '.join(TABLES)}: name one with --table")
    return found[0]


def _index_images(root: Path) -> dict[str, Path]:
    """Return ImageId, the stem of the file -> path below the root. Raises DataError for an image that is there twice."""
    paths: dict[str, Path] = {}
    for path in sorted(root.rglob("*.dcm")):
        below = path.relative_to(root)
        if paths.setdefault(path.stem, below) != below:
            raise DataError(f"{root} has an image in two places below it: keep one version of the images")
    if not paths:
        raise DataError(f"--images {root} has no .dcm file in it or below")
    return paths


def _read_runs(path: Path) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return image -> (its first row, [(row, runs)]); an image has a row per mask, or one of -1."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    empty: set[str] = set()
    for number, row in read_rows(path, ("ImageId", "EncodedPixels")):
        where, image = place(path, number), row["ImageId"]
        if image in empty or (row["EncodedPixels"] == NO_MASK and image in found):
            raise DataError(
                f"{where}: its image has both {NO_MASK} and another row: two versions of the table were joined"
            )
        _, runs = found.setdefault(image, (where, []))
        if row["EncodedPixels"] == NO_MASK:
            empty.add(image)
        elif not row["EncodedPixels"]:
            raise DataError(f"{where}: EncodedPixels is empty; expected {NO_MASK} for no pneumothorax")
        else:
            runs.append((where, row["EncodedPixels"]))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack siim-acr`."""
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help=f"folder with the table and the DICOM folders, or with {IMAGES}/ and its tables",
    )
    parser.add_argument("--table", type=Path, help=f"{' or '.join(TABLES)} (default: the one in the folder)")
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> SiimAcrSource | SiimAcrPngSource:
    """Build the source from parsed options. Raises DataError."""
    if arguments.table is None and (arguments.images / IMAGES).is_dir():
        return SiimAcrPngSource(arguments.images, val_share=arguments.val_share, decode_at_least=arguments.short_side)
    return SiimAcrSource(arguments.images, table=arguments.table, decoding=Decoding.from_arguments(arguments))
