"""VinDr-CXR (PhysioNet) or VinBigData (Kaggle): DICOM with labels and boxes of three readers, and a test split by consensus."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.box_agreement import ReaderBox, agreed_boxes
from msvl.data.csv_table import place, read_rows
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.label_states import label_state
from msvl.data.patient_facts import patient_facts
from msvl.data.shown import shown_cell
from msvl.data.study import Box, Entry, Record
from msvl.data.validation_split import train_or_val

EXAMPLE = "msvl data pack vindr-cxr --images vindr-cxr/1.0.0 --out shards/vindr"
LOCAL = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema", "Emphysema",
    "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass",
    "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion",
)  # fmt: skip
OTHER = "Other diseases"
OTHER_NAMES = (OTHER, "Other disease")
"""The training table has the plural, the test table the singular."""
NORMAL = "No finding"
FINDINGS = (*LOCAL, "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", OTHER, NORMAL)
KAGGLE_FINDINGS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration", "Lung Opacity",
    "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", NORMAL,
)  # fmt: skip
EDGES = ("x_min", "y_min", "x_max", "y_max")
CONSENSUS = "consensus"
"""Stands for the reader of the test split, whose tables name none."""
FOLDERS = ("annotations", "train", "test", ".")
KAGGLE = "train.csv"


@dataclass(frozen=True)
class _Reading:
    """What the readers of one image say."""

    where: str
    split: str
    votes: dict[str, dict[str, int]]
    """Reader -> finding -> 1 or 0."""
    boxes: dict[str, list[ReaderBox]]
    """Finding -> boxes."""


class VindrCxrSource:
    """One entry per image; the data set tells nothing of patients, so every image is one."""

    name = "vindr-cxr"
    id_space = "vindr-cxr"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    shareable = False
    has_reports = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, root: Path, *, agree: int = 2, val_share: float = 0.1, decoding: Decoding = AS_IT_IS) -> None:
        """Raise DataError when the folder is not there or the number is not that of readers.

        Args:
            root: Folder of the version, with train/, test/ and annotations/; or that of Kaggle, with train/ and train.csv.
            agree: Readers of three who must say a finding or box a lesion for it to count. Findings of fewer are uncertain.
            val_share: Share of the training images that go to val.
            decoding: How files are read.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        if not 1 <= agree <= 3:
            raise DataError(f"--agree {agree}: every image has three readers; give 1 to 3")
        self._root, self._agree, self._val_share = root, agree, val_share
        self._decoding = decoding
        self._kaggle = (root / KAGGLE).is_file()

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {
            "agree": self._agree,
            "kaggle": self._kaggle,
            "val_share": self._val_share,
            "window": self._decoding.window,
        }

    def entries(self) -> list[Entry]:
        """List the images. Raises DataError naming table and row."""
        readings = _kaggle_readings(self._root / KAGGLE) if self._kaggle else _readings(self._root)
        return [self._entry(image, reading) for image, reading in readings.items()]

    def record(self, entry: Entry) -> Record:
        """Read one image; none has a view in its header, all are postero-anterior by the description of the data set."""
        image, full_size, facts = read_radiograph(
            _image_path(self._root / entry.payload["folder"], entry.image),
            entry.where,
            self._decoding,
        )
        return Record(
            image,
            view=entry.view,
            labels=entry.labels,
            boxes=entry.payload["boxes"],
            full_size=full_size,
            extra=patient_facts(sex=facts.get("PatientSex", ""), age=facts.get("PatientAge", "")),
        )

    def _entry(self, image: str, reading: _Reading) -> Entry:
        needed = 1 if reading.split == "test" else self._agree
        boxes = [
            Box(finding.lower(), left, top, right - left, bottom - top, finding)
            for finding, drawn in reading.boxes.items()
            for left, top, right, bottom in agreed_boxes(drawn, needed)
        ]
        return Entry(
            patient=image,
            study=image,
            image=image,
            where=reading.where,
            split="test" if reading.split == "test" else train_or_val(image, self._val_share, self.id_space),
            payload={"folder": reading.split, "boxes": boxes},
            view="PA",
            labels=_agreed_labels(reading.votes, needed),
        )


def _agreed_labels(votes: Mapping[str, Mapping[str, int]], needed: int) -> dict[str, int | None]:
    """Return 1 for findings that enough readers say, 0 for those that nobody says, -1 for the others."""
    findings = next(iter(votes.values()))
    labels: dict[str, int | None] = {}
    for finding in findings:
        said = sum(reader[finding] for reader in votes.values())
        labels[finding] = 1 if said >= needed else -1 if said else 0
    return labels


def _readings(root: Path) -> dict[str, _Reading]:
    """Return image -> reading, from the four tables of PhysioNet."""
    readings: dict[str, _Reading] = {}
    for split in ("train", "test"):
        path = _find(root, f"image_labels_{split}.csv")
        readers = ("rad_id",) if split == "train" else ()
        columns = [name for name in FINDINGS if name != OTHER]
        for number, row in read_rows(path, ("image_id", *readers, *columns), OTHER_NAMES):
            where = place(path, number)
            other = next((name for name in OTHER_NAMES if name in row), None)
            if other is None:
                raise DataError(f"{path}: there is no column {' or '.join(map(repr, OTHER_NAMES))}: download it again")
            reading = readings.setdefault(row["image_id"], _Reading(where, split, {}, {}))
            reader = row.get("rad_id", CONSENSUS)
            if reader in reading.votes or reading.split != split:
                raise DataError(f"{where}: its image and reader have a row above already: download the table again")
            cells = {name: row[other if name == OTHER else name] for name in FINDINGS}
            reading.votes[reader] = {name: _vote(cell, where, name) for name, cell in cells.items()}
        for where, row in _box_rows(_find(root, f"annotations_{split}.csv"), ("image_id", *readers, "class_name")):
            if row["image_id"] not in readings:
                raise DataError(f"{where}: its image is not in {path.name}: take both tables of one version")
            if row["class_name"] != NORMAL:
                _add_box(readings[row["image_id"]], row, LOCAL, where)
    return readings


def _kaggle_readings(path: Path) -> dict[str, _Reading]:
    """Return image -> reading, from Kaggle's only table, where a reader's labels are the classes of the boxes."""
    readings: dict[str, _Reading] = {}
    for where, row in _box_rows(path, ("image_id", "rad_id", "class_name")):
        reading = readings.setdefault(row["image_id"], _Reading(where, "train", {}, {}))
        votes = reading.votes.setdefault(row["rad_id"], dict.fromkeys(KAGGLE_FINDINGS, 0))
        if row["class_name"] not in KAGGLE_FINDINGS:
            raise DataError(f"{where}: class {shown_cell(row['class_name'])}; expected {', '.join(KAGGLE_FINDINGS)}")
        votes[row["class_name"]] = 1
        if row["class_name"] != NORMAL:
            _add_box(reading, row, KAGGLE_FINDINGS, where)
    return readings


def _box_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    for number, row in read_rows(path, (*columns, *EDGES)):
        yield place(path, number), row


def _add_box(reading: _Reading, row: Mapping[str, str], findings: tuple[str, ...], where: str) -> None:
    if row["class_name"] not in findings:
        raise DataError(f"{where}: class {shown_cell(row['class_name'])}; expected {NORMAL} or {', '.join(findings)}")
    try:
        left, top, right, bottom = (float(row[name]) for name in EDGES)
    except ValueError as error:
        raise DataError(f"{where}: a coordinate is no number; download the table again") from error
    if not (0 <= left < right and 0 <= top < bottom):
        raise DataError(f"{where}: the box has no area or begins outside the image; download the table again")
    box = ReaderBox(row.get("rad_id", CONSENSUS), (left, top, right, bottom))
    reading.boxes.setdefault(row["class_name"], []).append(box)


def _vote(cell: str, where: str, column: str) -> int:
    state = label_state(cell, where, column)
    if state not in (0, 1):
        raise DataError(f"{where}: label {shown_cell(cell)} in column '{column}'; readers say 1 or 0")
    return state


def _find(root: Path, name: str) -> Path:
    """Return a table, in annotations/ or beside the images."""
    for folder in FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    raise DataError(
        f"--images {root} has no annotations/{name}: download the tables of the version, or name the folder above"
    )


def _image_path(folder: Path, image: str) -> Path:
    """Return the image's file: `.dicom`, or `.dcm` where a copy was renamed."""
    renamed = folder / f"{image}.dcm"
    return renamed if renamed.is_file() else folder / f"{image}.dicom"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack vindr-cxr`."""
    parser.add_argument(
        "--images", type=Path, required=True, help="folder with train/, test/, annotations/; or Kaggle's"
    )
    parser.add_argument(
        "--agree",
        type=int,
        default=2,
        metavar="READERS",
        help="of three, who must agree on a finding or a box; findings of fewer are uncertain (default: %(default)s)",
    )
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> VindrCxrSource:
    """Build the source from parsed options. Raises DataError."""
    return VindrCxrSource(
        arguments.images, agree=arguments.agree, val_share=arguments.val_share, decoding=Decoding.from_arguments(arguments),
    )  # fmt: skip
