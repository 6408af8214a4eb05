"""PadChest (BIMCV): 16-bit PNG with labels in words; its Spanish reports are stemmed and not read."""

from __future__ import annotations

import argparse
import ast
import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.images import read_reduced
from msvl.data.patient_facts import patient_facts
from msvl.data.study import Entry, Record
from msvl.data.view_names import add_views, choose_views, parse_views, view_group, view_name

logger = logging.getLogger(__name__)
EXAMPLE = "msvl data pack padchest --images PadChest --out shards/padchest"
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
FINDINGS = (
    "normal", "air trapping", "alveolar pattern", "aortic elongation", "atelectasis", "atypical pneumonia", "bronchiectasis",
    "cardiomegaly", "consolidation", "copd signs", "costophrenic angle blunting", "emphysema", "flattened diaphragm", "granuloma",
    "hemidiaphragm elevation", "hiatal hernia", "hilar enlargement", "hyperinflated lung", "infiltrates", "interstitial pattern",
    "kyphosis", "mass", "nodule", "pacemaker", "pleural effusion", "pleural thickening", "pneumonia", "pneumothorax",
    "pulmonary edema", "pulmonary fibrosis", "rib fracture", "scoliosis", "tuberculosis", "vascular hilar enlargement",
    "vertebral degenerative changes",
)  # fmt: skip
"""Findings that become labels unless others are named: frequent or often judged on, of 193. All names stay with the sample."""
EXCLUDED = "exclude"
"""A label that means that the radiograph is of no use."""
METHODS = {"physician": "Physician", "rnn": "RNN_model"}
COLUMNS = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "MethodLabel",
    "Labels", "Localizations", "LabelCUIS",
)  # fmt: skip


class PadChestSource:
    """One entry per image. There is no official split."""

    name = "padchest"
    id_space = "padchest"
    licence = "PadChest Dataset Research Use Agreement (BIMCV)"
    shareable = False
    has_reports = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(
        self, root: Path, *, findings: tuple[str, ...] = FINDINGS, labelled_by: str = "all",
        views: tuple[str, ...] = ("frontal",),
    ) -> None:  # fmt: skip
        """Raise DataError when folder or table are not there.

        Args:
            root: Folder with the table and the images, in images/0 ... images/54 or in 0 ... 54.
            findings: Names that become labels; an image that has a name has 1, another that was labelled at all 0.
            labelled_by: `physician` (27 % of the images), `rnn` (by a network from the report), or all.
            views: Groups of views to keep.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        self._root, self._table = root, _find_table(root)
        self._findings, self._labelled_by, self._views = findings, labelled_by, views
        self._images = root / "images" if (root / "images").is_dir() else root

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {
            "findings": list(self._findings),
            "labelled_by": self._labelled_by,
            "views": list(self._views),
        }

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming row, or a finding asked for that no image has.

        Those of FINDINGS that no image has are no labels: copies of a part of the data set lack many.
        """
        seen: set[str] = set()
        entries = choose_views(self._rows(seen), self._views, self.name)
        absent = [name for name in self._findings if name not in seen]
        if absent and self._findings != FINDINGS:
            raise _unknown_finding(absent[0], seen)
        if absent:
            logger.warning("%s: no image has these labels, which are left out: %s", self.name, ", ".join(absent))
        for entry in entries:
            for name in absent:
                del entry.labels[name]
        return entries

    def record(self, entry: Entry) -> Record:
        """Read one image, its 16 bits kept. Raises DataError for the images that are missing or cut short, and those marked exclude."""
        if EXCLUDED in entry.payload["extra"].get("names", ()):
            raise DataError(f"{entry.where}: its label is {EXCLUDED}: a radiograph of no use")
        image, full_size = read_reduced(self._images / entry.payload["path"], entry.where, at_least=0)
        extra = entry.extra | entry.payload["extra"]
        return Record(image, view=entry.view, labels=entry.labels, full_size=full_size, extra=extra)

    def _rows(self, seen: set[str]) -> Iterator[tuple[str, Entry]]:
        for number, row in read_rows(self._table, COLUMNS):
            where = place(self._table, number)
            if self._labelled_by != "all" and row["MethodLabel"] != METHODS[self._labelled_by]:
                continue
            names = read_names(row["Labels"], where, "Labels")
            seen.update(names or ())
            yield view_group(row["Projection"]), self._entry(row, names, where)

    def _entry(self, row: Mapping[str, str], names: list[str] | None, where: str) -> Entry:
        if not row["ImageID"] or not row["PatientID"]:
            raise DataError(f"{where}: ImageID or PatientID is empty: download the table again")
        extra = {
            "names": names,
            "locations": read_names(row["Localizations"], where, "Localizations"),
            "cuis": read_array(row["LabelCUIS"]),
            "labelled_by": row["MethodLabel"],
        }
        date = row["StudyDate_DICOM"].removesuffix(".0")
        return Entry(
            patient=row["PatientID"],
            study=row["StudyID"],
            image=row["ImageID"],
            where=where,
            payload={
                "path": f"{row['ImageDir'].removesuffix('.0')}/{row['ImageID']}",
                "extra": {name: value for name, value in extra.items() if value},
            },
            order=float(date) if date.isdigit() else None,
            view=view_name(row["Projection"]),
            labels={name: None if names is None else int(name in names) for name in self._findings},
            extra=patient_facts(sex=row["PatientSex_DICOM"], age=_age(date, row["PatientBirth"])),
        )


def read_names(cell: str, where: str, column: str) -> list[str] | None:
    """Return the names of a cell that holds a Python list, blanks at their ends and within collapsed; None for a blank cell.

    Raises:
        DataError: The cell is no list.
    """
    if cell.lower() in ("", "nan", "none"):
        return None
    try:
        names = ast.literal_eval(cell)
        cleaned = [" ".join(name.split()) for name in names]
    except (ValueError, SyntaxError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: {column} is no list such as ['pneumonia', 'nodule']: download the table again"
        ) from error
    return [name for name in dict.fromkeys(cleaned) if name]


def read_array(cell: str) -> list[str]:
    """Return the words of a cell that holds a NumPy array, whose words have no commas between them."""
    return [word for word in re.findall(r"'([^']*)'", cell) if word]


def _age(date: str, birth: str) -> str:
    """Return years to within one: the table has the year of birth only."""
    year = birth.removesuffix(".0")
    return str(int(date[:4]) - int(year)) if date.isdigit() and year.isdigit() else ""


def _unknown_finding(name: str, seen: set[str]) -> DataError:
    near = difflib.get_close_matches(name, FINDINGS, n=1)
    hint = (
        f"did you mean '{near[0]}'?"
        if near
        else f"the table has {len(seen):,} names; frequent ones are {', '.join(FINDINGS)}"
    )
    return DataError(f"--findings {name}: no image has this label: {hint}")


def _find_table(root: Path) -> Path:
    for path in (root / TABLE, root / f"{TABLE}.gz"):
        if path.is_file():
            return path
    raise DataError(f"--images {root} has no {TABLE} or {TABLE}.gz: download it into this folder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack padchest`."""
    parser.add_argument("--images", type=Path, required=True, help="folder with the table and images/0 ... images/54")
    parser.add_argument(
        "--findings",
        default="",
        metavar="NAMES",
        help=f"labels to keep, comma-separated (default: {len(FINDINGS)} of 193)",
    )
    parser.add_argument(
        "--labelled-by", choices=("all", *METHODS), default="all", help="whose labels (default: %(default)s)"
    )
    add_views(parser)


def from_arguments(arguments: argparse.Namespace) -> PadChestSource:
    """Build the source from parsed options. Raises DataError."""
    named = tuple(name for name in (part.strip() for part in arguments.findings.split(",")) if name)
    return PadChestSource(
        arguments.images,
        findings=named or FINDINGS,
        labelled_by=arguments.labelled_by,
        views=parse_views(arguments.views),
    )
