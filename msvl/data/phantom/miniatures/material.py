"""What all miniatures are made of: phantom studies with made-up patients, and files in the form of data sets."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from msvl.data.reports import plain, split_sections
from msvl.data.sources.phantom import PhantomSource
from msvl.data.study import Box

CHEXPERT_NAMES = {
    "effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Lung Lesion",
}
"""The phantom's findings in the words of CheXpert's labels."""


@dataclass(frozen=True)
class MiniatureStudy:
    """One study of a made-up patient."""

    patient: int
    """Number of the patient, from 0; patients of a split follow each other."""
    study: int
    """Number of the patient's study, from 0, in time."""
    split: str
    """train, val or test."""
    frontal: np.ndarray
    """[H, W] uint8."""
    findings: str
    """Text of that section, on one line."""
    impression: str
    labels: dict[str, int]
    """The phantom's findings, 1 or 0."""
    boxes: tuple[Box, ...]
    """In pixels of `frontal`."""

    @property
    def lateral(self) -> np.ndarray:
        """Return a picture that stands for the lateral view: it has the size of one, and no anatomy."""
        return cv2.blur(self.frontal[:, ::-1], (9, 9))

    @property
    def sex(self) -> str:
        """Return M or F."""
        return "MF"[self.patient % 2]

    @property
    def age(self) -> int:
        """Return years."""
        return 20 + 7 * self.patient % 70

    @property
    def number(self) -> int:
        """Return a number that no other study has."""
        return 2 * self.patient + self.study

    def chexpert_labels(self) -> dict[str, str]:
        """Return CheXpert's labels as they stand in tables: `1.0`, `0.0`, `-1.0` in every fourth study, blank where not mentioned."""
        cells = {CHEXPERT_NAMES[name]: f"{state:.1f}" for name, state in self.labels.items()}
        if self.number % 4 == 1:
            cells["Consolidation"] = "-1.0"
        if not any(self.labels.values()):
            cells["No Finding"] = "1.0"
        return cells


def draw_studies(
    *, train: int = 16, val: int = 4, test: int = 4, seed: int = 0, size: int = 96
) -> list[MiniatureStudy]:
    """Draw patients of each split; some of those for training have two studies. Raises DataError as the phantom does."""
    source = PhantomSource(train=train, val=val, test=test, seed=seed, size=size, studies_per_patient=1.5)
    entries = sorted(
        source.entries(), key=lambda entry: (("train", "val", "test").index(entry.split or ""), entry.study)
    )
    numbers: dict[str, int] = {}
    studies = []
    for entry in entries:
        record = source.record(entry)
        sections = {s.name: plain(record.report, s.start, s.end) for s in split_sections(record.report)}
        studies.append(
            MiniatureStudy(
                patient=numbers.setdefault(entry.patient, len(numbers)),
                study=entry.payload[1],
                split=entry.split or "",
                frontal=record.image,
                findings=sections["findings"],
                impression=sections["impression"],
                labels={name: state or 0 for name, state in record.labels.items()},
                boxes=tuple(record.boxes),
            )
        )
    return studies


def hex_id(*parts: object, digits: int) -> str:
    """Return a made-up id of hexadecimal digits."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:digits]


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a JPEG or PNG, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix, image)
    path.write_bytes(data.tobytes())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a .csv or .csv.gz, folders included, with the line ends of the official tables."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, compressed where the name ends in .gz, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
