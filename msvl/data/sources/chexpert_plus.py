"""CheXpert Plus (Stanford): CheXpert's images as PNG or DICOM with reports in sections, and CheXbert's labels."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import not_utf8, place, read_rows
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.label_states import CHEXPERT_FINDINGS, check_labelled
from msvl.data.patient_facts import patient_facts
from msvl.data.patient_folders import TAIL, patient_folders
from msvl.data.shown import shown_cell
from msvl.data.study import Entry, Record
from msvl.data.view_names import add_views, choose_views, parse_views, view_group

logger = logging.getLogger(__name__)
EXAMPLE = "msvl data pack chexpert-plus --images chexpertplus --out shards/chexpert-plus --train-tokenizer 30000"
TABLE = "df_chexpert_plus_240401.csv"
SPLITS = {"train": "train", "valid": "val"}
PIXELS = {"PNG": ".png", "DICOM/Compressed": ".dcm", "DICOM/Uncompressed": ".dcm"}
"""--pixels: folder -> suffix of its files. The PNG chunks are seen nested as PNG/PNG too."""
LABELS = "chexbert_labels/{}_fixed.json"
GRAPHS = "radgraph-XL-annotations"
"""Folder of entities and relations. Its lists name no study: they follow the rows whose section has two words or more, and a row
too many or too few would give every later one the graph of another patient. So they are not read."""
LABELLED = ("report", "impression", "findings", "none")
"""--labels: the text that CheXbert has read."""
SECTIONS = (
    "narrative", "clinical_history", "history", "comparison", "technique", "procedure_comments", "findings", "impression", "summary",
)  # fmt: skip
COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report", "age", "sex",
           "split", *(f"section_{name}" for name in SECTIONS))  # fmt: skip
_BROKEN = re.compile("\ufffd+")


class CheXpertPlusSource:
    """One entry per image; report and labels are those of its study."""

    name = "chexpert-plus"
    id_space = "chexpert"
    licence = "Stanford AIMI CheXpert Plus Dataset Research Use Agreement"
    shareable = False
    has_reports = True
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(
        self, root: Path, *, labels: str = "report", views: tuple[str, ...] = ("frontal",), pixels: str = "PNG",
        decoding: Decoding = AS_IT_IS,
    ) -> None:  # fmt: skip
        """Raise DataError when images, table or labels are not there.

        Args:
            root: Folder with the table, the folder of images and `chexbert_labels/`.
            labels: Of which text, of LABELLED.
            views: Groups of views to keep.
            pixels: Which folder of images, of PIXELS.
            decoding: How files are read.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        for name, what in ((TABLE, "table"), (pixels, "folder of unpacked images")):
            if not (root / name).exists():
                raise DataError(f"--images {root} has no {name}, the {what}: put it there")
        if labels != "none" and not (root / LABELS.format(labels)).is_file():
            raise DataError(f"--images {root} has no {LABELS.format(labels)}: put it there, or give --labels none")
        self._root, self._labels, self._views = root, labels, views
        self._pixels, self._decoding = pixels, decoding

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {
            "labels": self._labels,
            "views": list(self._views),
            "pixels": self._pixels,
            "window": self._decoding.window,
        }

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming file and row."""
        if (self._root / GRAPHS).is_dir():
            logger.warning("%s: %s/ is not read: its lists name no study", self.name, GRAPHS)
        entries = choose_views(self._rows(), self._views, self.name)
        if self._labels != "none":
            check_labelled((entry.labels for entry in entries), self._root / LABELS.format(self._labels))
        return entries

    def record(self, entry: Entry) -> Record:
        """Read one image; its report was listed."""
        found = entry.payload
        path = self._root / found["path"]
        image, full_size, _ = read_radiograph(path, entry.where, self._decoding)
        return Record(
            image,
            found["report"],
            view=entry.view,
            labels=entry.labels,
            full_size=full_size,
            extra=entry.extra,
        )

    def _rows(self) -> Iterator[tuple[str, Entry]]:
        folders = patient_folders(self._root / self._pixels)
        labels = _labels(self._root / LABELS.format(self._labels)) if self._labels != "none" else {}
        path = self._root / TABLE
        for number, row in read_rows(path, COLUMNS, optional=("race",)):
            yield _listed(row, place(path, number), folders, labels, pixels=self._pixels)


def _listed(
    row: Mapping[str, str], where: str, folders: Mapping[str, str], labels: Mapping[str, dict[str, int | None]],
    *, pixels: str,
) -> tuple[str, Entry]:  # fmt: skip
    tail = TAIL.search(row["path_to_image"])
    if not tail:
        raise DataError(
            f"{where}: path_to_image is not train/patient00001/study1/view1_frontal.jpg; download the table again"
        )
    if row["split"] not in SPLITS:
        raise DataError(f"{where}: split {shown_cell(row['split'])}; expected {' or '.join(SPLITS)}")
    if not row["deid_patient_id"]:
        raise DataError(f"{where}: deid_patient_id is empty, so its split is not safe; download the table again")
    split, patient, study, image, kind = tail.groups()
    # The table says .jpg, the images are .png or .dcm.
    file = f"{pixels}/{folders.get(patient, f'{split}/{patient}')}/{study}/{image}{PIXELS[pixels]}"
    return kind, Entry(
        patient=row["deid_patient_id"],
        study=f"{patient}/{study}",
        image=image,
        where=where,
        split=SPLITS[row["split"]],
        payload={"path": file, "report": report_of(row)},
        order=_rank(row["patient_report_date_order"], where),
        view=row["ap_pa"] if view_group(row["ap_pa"]) == kind else kind,
        labels=labels.get(_name(tail), {}),
        extra=patient_facts(
            sex=row["sex"], age="" if row["age"] in ("0", "0.0") else row["age"], race=row.get("race", "")
        ),
    )


def report_of(row: Mapping[str, str]) -> str:
    """Return the report made of the shipped sections, or as a whole where neither findings nor impression is filled.

    The accession number, which is in the whole report, is left out with the other columns.
    """
    texts = {name: _text(row[f"section_{name}"]) for name in SECTIONS}
    if not (texts["findings"] or texts["impression"]):
        return _text(row["report"])
    return "\n\n".join(f"{name.replace('_', ' ').upper()}: {text}" for name, text in texts.items() if text)


def _text(cell: str) -> str:
    """Return a cell's text without the marks of broken characters; empty for NaN."""
    text = _BROKEN.sub(" ", cell).strip()
    return "" if text.lower() == "nan" else text


def _rank(cell: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"{where}: patient_report_date_order is {shown_cell(cell)}; expected a number") from None


def _labels(path: Path) -> dict[str, dict[str, int | None]]:
    """Return image path (from train/ or valid/ on, without suffix) -> labels, from JSON lines. Raises DataError naming the line."""
    labels: dict[str, dict[str, int | None]] = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                where = f"{path.name} line {number}"
                name, own = _labelled(line, where)
                if labels.setdefault(name, own) != own:
                    raise DataError(f"{where}: its image has other labels in a line above: download the file again")
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    if not labels:
        raise DataError(f"{path} is empty: download it again")
    return labels


def _name(tail: re.Match[str]) -> str:
    """Return a path without its suffix, which differs between files."""
    return "/".join(tail.groups()[:4])


def _labelled(line: str, where: str) -> tuple[str, dict[str, int | None]]:
    try:
        row = json.loads(line)
        tail = TAIL.search(row["path_to_image"])
        states = {name: row[name] for name in CHEXPERT_FINDINGS}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: expected one JSON object with path_to_image and 14 findings per line ({type(error).__name__} {error})"
        ) from error
    if not tail:
        raise DataError(
            f"{where}: path_to_image is not train/patient00001/study1/view1_frontal.jpg; download the file again"
        )
    wrong = [name for name, state in states.items() if state not in (None, 1, 0, -1)]
    if wrong:
        raise DataError(f"{where}: label {shown_cell(str(states[wrong[0]]))} of {wrong[0]}; expected 1, 0, -1 or null")
    return _name(tail), {name: None if state is None else int(state) for name, state in states.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack chexpert-plus`."""
    parser.add_argument("--images", type=Path, required=True, help=f"folder with {TABLE}, images and chexbert_labels/")
    parser.add_argument(
        "--labels",
        choices=LABELLED,
        default="report",
        help="of which text CheXbert's labels are (default: %(default)s)",
    )
    parser.add_argument(
        "--pixels", choices=PIXELS, default="PNG", help="folder of the images to read (default: %(default)s)"
    )
    add_views(parser)
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> CheXpertPlusSource:
    """Build the source from parsed options. Raises DataError."""
    return CheXpertPlusSource(
        arguments.images,
        labels=arguments.labels,
        views=parse_views(arguments.views),
        pixels=arguments.pixels,
        decoding=Decoding.from_arguments(arguments),
    )
