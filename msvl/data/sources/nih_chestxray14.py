"""NIH ChestX-ray14: labels of 14 findings, boxes on 880 test images, the official split by patient; no reports."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.images import read_reduced
from msvl.data.label_reports import plain_name
from msvl.data.patient_facts import patient_facts
from msvl.data.set_folder import split_files
from msvl.data.shown import shown_cell
from msvl.data.sources.nih_relabels import read_relabels, relabel
from msvl.data.study import Box, Entry, Record
from msvl.data.validation_split import train_or_val
from msvl.data.view_names import add_views, choose_views, parse_views, view_group, view_name

EXAMPLE = "msvl data pack nih-chestxray14 --images ChestXray-NIHCC --out shards/nih"
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia", "Infiltration", "Mass",
    "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
NORMAL = "No Finding"
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = "BBox_List_2017.csv"
BOX_COLUMNS = ("Bbox [x", "y", "w", "h]")
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
BOX_NAMES = {"Infiltrate": "Infiltration"}
"""What the boxes call a finding otherwise than the table does."""
BOX_SIDE = 1024
"""Boxes are in pixels of the published images, of 1024 x 1024."""
ID_SPACE = "nih-chestxray14"
FOLDERS = ("images_*/images", "images_*", "images", ".")
"""Where the PNG lie below the root: unpacked from Kaggle or from Box, all in one folder, or beside the table."""


class NihChestXray14Source:
    """One entry per image. Each is a study of its own: nothing says which images were taken together."""

    name = "nih-chestxray14"
    id_space = ID_SPACE
    licence = "No restrictions (NIH Clinical Center); cite Wang et al., CVPR 2017"
    shareable = False
    has_reports = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(
        self, root: Path, *, table: Path | None = None, views: tuple[str, ...] = ("frontal",), val_share: float = 0.1,
        decode_at_least: int = 0, relabels: Path | None = None,
    ) -> None:  # fmt: skip
        """Raise DataError when folder or table are not there.

        Args:
            root: Folder with the table, both lists and the images.
            table: One of TABLES; None looks for it in the folder.
            views: Groups of views to keep.
            val_share: Share of the patients of train_val_list.txt that go to val.
            decode_at_least: Short side in pixels that copies as JPEG may be reduced to, 0 the whole.
            relabels: Table of Google's labels; None keeps NIH's.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        self._root, self._table = root, table or _find_table(root)
        self._views, self._val_share, self._decode_at_least = views, val_share, decode_at_least
        self._relabels = relabels

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        boxes = (self._root / BOXES).is_file()
        return {
            "table": self._table.name,
            "boxes": boxes,
            "views": list(self._views),
            "val_share": self._val_share,
            "relabels": split_files(self._relabels),
            "split_files": split_files(*(self._root / name for name in LISTS)),
        }

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming file and row."""
        splits = read_lists(self._root)
        rows = self._rows(splits)
        if self._relabels:
            rows = relabel(rows, read_relabels(self._relabels), splits)
        return choose_views(rows, self._views, self.name)

    def record(self, entry: Entry) -> Record:
        """Read one image. Raises DataError when it has boxes and is not square, as the published images are."""
        image, full_size = read_reduced(self._root / entry.payload["path"], entry.where, self._decode_at_least)
        boxes = entry.payload["boxes"]
        if boxes and full_size[0] != full_size[1]:
            raise DataError(
                f"{entry.where}: the image has {full_size[1]} x {full_size[0]} px and its boxes belong to the square images of the "
                "data set: give those"
            )
        return Record(
            image,
            view=entry.view,
            labels=entry.labels,
            boxes=boxes,
            full_size=(BOX_SIDE, BOX_SIDE) if boxes else full_size,
            extra=entry.extra,
        )

    def _rows(self, splits: Mapping[str, str]) -> Iterator[tuple[str, Entry]]:
        boxes = _read_boxes(self._root / BOXES)
        paths = _index_images(self._root)
        columns = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "View Position")
        for number, row in read_rows(self._table, columns, ("Patient Gender", "Patient Sex")):
            where, image = place(self._table, number), row["Image Index"]
            if image not in splits:
                raise DataError(f"{where}: its image is in neither {' nor '.join(LISTS)}: take all from one version")
            patient = patient_of(image, where)
            if int(patient) != _whole(row["Patient ID"], "Patient ID", where):
                raise DataError(f"{where}: Patient ID and Image Index name two patients: download the table again")
            split = splits[image]
            yield (
                view_group(row["View Position"]),
                Entry(
                    patient=patient,
                    study=study_of(image),
                    image=image,
                    where=where,
                    split=split if split == "test" else train_or_val(patient, self._val_share, ID_SPACE),
                    payload={"path": paths.get(image, image), "boxes": boxes.get(image, [])},
                    order=float(_whole(row["Follow-up #"], "Follow-up #", where)),
                    view=view_name(row["View Position"]),
                    labels=_labels(row["Finding Labels"], where),
                    extra=patient_facts(
                        sex=row.get("Patient Gender", row.get("Patient Sex", "")), age=row["Patient Age"]
                    ),
                ),
            )


def patient_of(image: str, where: str) -> str:
    """Return the patient id of 8 digits that an Image Index `00000001_000.png` begins with. Raises DataError."""
    patient, underscore, _ = image.partition("_")
    if not (underscore and patient.isdigit() and len(patient) == 8 and image.endswith(".png")):
        raise DataError(
            f"{where}: Image Index is not 00000001_000.png; a spreadsheet may have changed it: download the table again"
        )
    return patient


def study_of(image: str) -> str:
    """Return the study's id, which is that of its only image."""
    return image.removesuffix(".png")


def read_lists(root: Path) -> dict[str, str]:
    """Return image -> train or test of the official split. Raises DataError for a missing list and an image in both."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        for image in read_list(root / name):
            if splits.setdefault(image, split) != split:
                raise DataError(f"{root / name} names an image that the other list has too: download both again")
    return splits


def read_list(path: Path) -> list[str]:
    """Return the lines of a list of images. Raises DataError when it is missing or empty."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; the official split needs it: download it beside the table")
    images = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not images:
        raise DataError(f"{path} is empty: download it again")
    return images


def _find_table(root: Path) -> Path:
    found = [root / name for name in TABLES if (root / name).is_file()]
    if not found:
        raise DataError(f"--images {root} has no {' or '.join(TABLES)}: download it into this folder")
    if len(found) > 1:
        raise DataError(
            f"--images {root} has {' and '.join(TABLES)}, whose labels differ: name one with --table, or remove one"
        )
    return found[0]


def _index_images(root: Path) -> dict[str, str]:
    """Return file name -> path below the root; of several copies the first in the order of FOLDERS."""
    paths: dict[str, str] = {}
    for pattern in FOLDERS:
        for folder in [root] if pattern == "." else sorted(root.glob(pattern)):
            for path in folder.glob("*.png"):
                paths.setdefault(path.name, str(path.relative_to(root)))
    return paths


def _labels(cell: str, where: str) -> dict[str, int | None]:
    """Return 1 for findings that are named, 0 for others: the table names all that the labeller found."""
    named = {name.strip() for name in cell.split("|")}
    unknown = sorted(named - {NORMAL, *FINDINGS})
    if unknown:
        raise DataError(
            f"{where}: finding {shown_cell(unknown[0])}; expected {NORMAL} or {', '.join(FINDINGS)}, joined by |"
        )
    if NORMAL in named and len(named) > 1:
        raise DataError(f"{where}: {NORMAL} stands beside a finding: download the table again")
    return {name: int(name in named) for name in (NORMAL, *FINDINGS)}


def _read_boxes(path: Path) -> dict[str, list[Box]]:
    """Return image -> boxes. The header has 9 names, of which three are empty, and the rows 6 cells."""
    if not path.is_file():
        return {}
    boxes: dict[str, list[Box]] = {}
    for number, row in read_rows(path, ("Image Index", "Finding Label", *BOX_COLUMNS)):
        where = place(path, number)
        finding = BOX_NAMES.get(row["Finding Label"], row["Finding Label"])
        if finding not in FINDINGS:
            raise DataError(
                f"{where}: finding {shown_cell(row['Finding Label'])}; expected one of {', '.join(FINDINGS)}"
            )
        try:
            x, y, w, h = (float(row[name]) for name in BOX_COLUMNS)
        except ValueError as error:
            raise DataError(f"{where}: a coordinate is no number; download the table again") from error
        if not (w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= BOX_SIDE and y + h <= BOX_SIDE):
            raise DataError(f"{where}: the box is not inside {BOX_SIDE} x {BOX_SIDE} px; download the table again")
        boxes.setdefault(row["Image Index"], []).append(Box(plain_name(finding), x, y, w, h, finding))
    return boxes


def _whole(cell: str, column: str, where: str) -> int:
    if not cell.isdigit():
        raise DataError(f"{where}: {column} is {shown_cell(cell)}; expected a whole number")
    return int(cell)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack nih-chestxray14`."""
    parser.add_argument(
        "--images", type=Path, required=True, help="folder with the table, train_val_list.txt, test_list.txt and images"
    )
    parser.add_argument("--table", type=Path, help=f"{' or '.join(TABLES)} (default: the one in the folder)")
    parser.add_argument(
        "--relabels", type=Path, metavar="FILE",
        help="google2019_nih-chest-xray-labels.csv: its images alone, with its four labels and its val and test",
    )  # fmt: skip
    add_views(parser)


def from_arguments(arguments: argparse.Namespace) -> NihChestXray14Source:
    """Build the source from parsed options. Raises DataError."""
    return NihChestXray14Source(
        arguments.images, table=arguments.table, views=parse_views(arguments.views), val_share=arguments.val_share,
        decode_at_least=arguments.short_side, relabels=arguments.relabels,
    )  # fmt: skip
