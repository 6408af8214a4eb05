"""CheXpert v1.0 or v1.0-small (Stanford): labels of 14 findings, no reports."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.images import read_reduced
from msvl.data.label_states import CHEXPERT_FINDINGS, label_states
from msvl.data.patient_facts import patient_facts
from msvl.data.patient_folders import TAIL, patient_folders
from msvl.data.shown import shown_cell
from msvl.data.study import Entry, Record
from msvl.data.view_names import add_views, choose_views, parse_views, view_group

EXAMPLE = "msvl data pack chexpert --images CheXpert-v1.0-small --out shards/chexpert"
SPLITS = {"train": "train", "valid": "val", "test": "test"}
TABLES = {"chexpert": "train.csv", "chexbert": "train_cheXbert.csv", "visualchexbert": "train_visualCheXbert.csv"}
"""--labels -> table of the training split."""
FACTS = ("Sex", "Age", "Frontal/Lateral", "AP/PA")


class CheXpertSource:
    """One entry per image; labels are those of its study."""

    name = "chexpert"
    id_space = "chexpert"
    licence = "Stanford University Dataset Research Use Agreement"
    shareable = False
    has_reports = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(
        self, root: Path, *, labels: str = "chexpert", test_labels: Path | None = None,
        views: tuple[str, ...] = ("frontal",), decode_at_least: int = 0,
    ) -> None:  # fmt: skip
        """Raise DataError when the folder is not there.

        Args:
            root: Folder with tables and images, in any of the forms that the archives unpack to.
            labels: Whose labels of the training split, of TABLES.
            test_labels: Table of the test split, keyed by `Study` (published with CheXlocalize).
            views: Groups of views to keep.
            decode_at_least: Short side in pixels that JPEGs may be reduced to, 0 the whole.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        self._root, self._labels, self._test_labels = root, labels, test_labels
        self._views, self._decode_at_least = views, decode_at_least

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        test = self._test_labels.name if self._test_labels else ""
        return {"labels": self._labels, "test_labels": test, "views": list(self._views)}

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming table and row."""
        return choose_views(self._rows(), self._views, self.name)

    def record(self, entry: Entry) -> Record:
        """Read one image."""
        image, full_size = read_reduced(self._root / entry.payload, entry.where, self._decode_at_least)
        return Record(image, view=entry.view, labels=entry.labels, full_size=full_size, extra=entry.extra)

    def _rows(self) -> Iterator[tuple[str, Entry]]:
        folders = patient_folders(self._root)
        for name in (TABLES[self._labels], "valid.csv"):
            path = _find(self._root, name)
            for number, row in read_rows(path, ("Path", *FACTS, *CHEXPERT_FINDINGS)):
                yield _listed(row, place(path, number), folders)
        if self._test_labels:
            yield from self._test_rows(self._test_labels, folders)

    def _test_rows(self, path: Path, folders: dict[str, str]) -> Iterator[tuple[str, Entry]]:
        """Yield the images on disk of the studies of the test table, which names no images."""
        for number, row in read_rows(path, ("Study", *CHEXPERT_FINDINGS)):
            where = place(path, number)
            name = re.search(r"test/(patient\d{5})/(study\d+)/?$", row["Study"])
            if not name:
                raise DataError(f"{where}: Study is not .../test/patient64741/study1; download the table again")
            study = self._root / folders.get(name[1], f"test/{name[1]}") / name[2]
            images = sorted(study.glob("view*_*.jpg"))
            if not images:
                raise DataError(f"{where}: there is no image of its study below --images: unpack the test split there")
            for image in images:
                group = "lateral" if "lateral" in image.name else "frontal"
                labels = label_states(row, CHEXPERT_FINDINGS, where)
                yield group, Entry(
                    name[1], f"{name[1]}/{name[2]}", image.stem, f"{where} {image.stem}", "test",
                    payload=str(image.relative_to(self._root)), view=group, labels=labels,
                )  # fmt: skip


def _listed(row: dict[str, str], where: str, folders: dict[str, str]) -> tuple[str, Entry]:
    tail = TAIL.search(row["Path"])
    if not tail:
        raise DataError(
            f"{where}: Path is not .../train/patient00001/study1/view1_frontal.jpg; download the table again"
        )
    split, patient, study, image, kind = tail.groups()
    if view_group(row["Frontal/Lateral"]) != kind:
        raise DataError(
            f"{where}: Frontal/Lateral is {shown_cell(row['Frontal/Lateral'])} and the file is called {image}.jpg; download the "
            "table again"
        )
    # 32 rows of frontal images say LL or RL.
    view = row["AP/PA"] if view_group(row["AP/PA"]) == kind else kind
    age = "" if row["Age"] in ("0", "0.0") else row["Age"]
    return kind, Entry(
        patient, f"{patient}/{study}", image, where, SPLITS[split],
        payload=f"{folders.get(patient, f'{split}/{patient}')}/{study}/{image}.jpg",
        view=view, labels=label_states(row, CHEXPERT_FINDINGS, where), extra=patient_facts(sex=row["Sex"], age=age),
    )  # fmt: skip


def _find(root: Path, name: str) -> Path:
    """Return a table below the root, or below one of its folders (`CheXpert-v1.0 batch 1 (validate & csv)`)."""
    found = [path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()]
    if not found:
        raise DataError(f"--images {root} has no {name}, here or one folder below: download it into this folder")
    if len(found) > 1:
        raise DataError(f"--images {root} has two of {name}: {found[0]} and {found[1]}; name the folder of one version")
    return found[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack chexpert`."""
    parser.add_argument("--images", type=Path, required=True, help="folder with train.csv, valid.csv and the images")
    parser.add_argument("--labels", choices=TABLES, default="chexpert", help="of training (default: %(default)s)")
    parser.add_argument("--test-labels", type=Path, metavar="CSV", help="labels of the test split, keyed by Study")
    add_views(parser)


def from_arguments(arguments: argparse.Namespace) -> CheXpertSource:
    """Build the source from parsed options. Raises DataError."""
    return CheXpertSource(
        arguments.images, labels=arguments.labels, test_labels=arguments.test_labels,
        views=parse_views(arguments.views), decode_at_least=arguments.short_side,
    )  # fmt: skip
