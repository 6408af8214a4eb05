"""Lists -> what is compared: images by name, patients as the names or a column tell them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msvl.data.config import ReportConfig
from msvl.data.identity import text_hash
from msvl.data.leaks.group import NOTHING, Argument, Group, Register, hashes
from msvl.data.leaks.layouts import IMAGE_ENDING, ImageName, base_name, read_name, read_patient
from msvl.data.leaks.list_file import ListFile, Row
from msvl.data.packed import SPLITS
from msvl.data.sample import report_fields, usable_sentences


@dataclass(frozen=True)
class Naming:
    """How images and patients of all lists are named, so that they can be compared."""

    by_path: bool
    """Images by their whole path, because base names are not unique."""
    mapping: Mapping[str, str]
    """Base name -> NIH image, of images that were taken from there."""
    patient_column_first: bool
    """The user named the column of patients: it counts more than what an image's name tells."""

    @classmethod
    def of(cls, lists: Sequence[ListFile], mapping: Mapping[str, str], *, patient_column_first: bool) -> Naming:
        """Choose by what the lists hold."""
        return cls(any(map(_base_names_repeat, lists)), mapping, patient_column_first)

    def name(self, row: Row) -> ImageName:
        """Return the names of a row's image, patient and study; empty where nobody tells them."""
        path = self.mapping.get(base_name(row.path), row.path)
        known = read_name(path)
        if known is None:
            whole = IMAGE_ENDING.sub("", path)
            known = ImageName(whole if self.by_path else base_name(path))
        patient = read_patient(row.patient)
        patient = patient or known.patient if self.patient_column_first else known.patient or patient
        return ImageName(known.image, patient, known.study or row.study)


def list_argument(found: ListFile, naming: Naming) -> Argument:
    """Return what is compared of a list."""
    by_split: dict[str, list[Row]] = defaultdict(list)
    for row in found.rows:
        by_split[row.split].append(row)
    groups = tuple(_group(split, by_split[split], naming) for split in (*SPLITS, "") if split in by_split)
    return Argument(
        title=str(found.path),
        groups=groups,
        kind="list",
        register=Register("list", "list", "the ids of the lists"),
        text_kind="sentences",
        notes=_notes(found, groups),
    )


def _group(split: str, rows: Sequence[Row], naming: Naming) -> Group:
    """Return the images of a split, each once: lists of boxes and masks name one several times."""
    named: dict[str, tuple[Row, ImageName]] = {}
    for row in rows:
        name = naming.name(row)
        named.setdefault(name.image, (row, name))
    kept = list(named.values())
    return Group(
        split=split,
        samples=np.array([row.path for row, _ in kept], dtype=object),
        patients=hashes(name.patient for _, name in kept),
        studies=hashes(name.study for _, name in kept),
        images=hashes(name.image for _, name in kept),
        texts=np.array([_text(row.text) for row, _ in kept], dtype=np.uint64),
        prints=None,
    )


def _notes(found: ListFile, groups: Sequence[Group]) -> tuple[str, ...]:
    unknown = sum(int((group.patients == NOTHING).sum()) for group in groups)
    total = sum(map(len, groups))
    if not unknown:
        return ()
    cure = (
        ""
        if found.patient_column
        else ": name a column with --patient-column, or a file that maps images with --mapping"
    )
    return (f"{found.path}: the patient of {unknown:,} of {total:,} images is not known{cure}",)


def _base_names_repeat(found: ListFile) -> bool:
    plain = {IMAGE_ENDING.sub("", row.path) for row in found.rows if read_name(row.path) is None}
    return len({base_name(path) for path in plain}) < len(plain)


def _text(report: str) -> int:
    """Return the hash that a packed set keeps of a report: of its usable sentences."""
    if not report:
        return NOTHING
    try:
        return int(text_hash(" ".join(usable_sentences(report_fields(report), ReportConfig()))), 16)
    except ValueError:
        return NOTHING
