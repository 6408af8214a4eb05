"""MS-CXR (PhysioNet): phrases with boxes on images of MIMIC-CXR-JPG, to judge grounding on."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import not_utf8, place, read_rows
from msvl.data.images import read_reduced
from msvl.data.mimic_reports import ReportFiles
from msvl.data.shown import shown_cell
from msvl.data.sources.mimic_cxr_jpg import check_root
from msvl.data.study import Box, Entry, Record

EXAMPLE = "msvl data pack ms-cxr --images mimic-cxr-jpg/2.1.0 --annotations ms-cxr/1.1.0 --out shards/ms-cxr"
CATEGORIES = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Lung Opacity", "Pleural Effusion", "Pneumonia", "Pneumothorax",
)  # fmt: skip
FILES = "MS_CXR_Local_Alignment_v*"
COLUMNS = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
_PATH = re.compile(r"files/p1\d/p(1\d{7})/s(5\d{7})/([0-9a-f-]{44})\.jpg")


@dataclass(frozen=True)
class Annotation:
    """One box of one phrase."""

    where: str
    path: str
    category: str
    phrase: str
    box: tuple[float, float, float, float]
    """x, y, w, h in pixels of the whole JPEG."""
    size: tuple[int, int]
    """(height, width) that the box was drawn in."""
    split: str


class MsCxrSource:
    """One entry per image, with all boxes of all its phrases: those of one phrase have equal phrase and finding."""

    name = "ms-cxr"
    id_space = "mimic-cxr"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    shareable = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(
        self, images: Path, annotations: Path, reports: ReportFiles | None = None, decode_at_least: int = 0
    ) -> None:
        """Raise DataError when images or annotations are not there.

        Args:
            images: Folder of a version of MIMIC-CXR-JPG.
            annotations: The CSV or the COCO JSON, or the folder of a version, whose CSV is taken.
            reports: Reports of MIMIC-CXR; None packs phrases, boxes and labels alone.
            decode_at_least: Short side in pixels that JPEGs may be reduced to, 0 the whole.
        """
        check_root(images)
        self._images, self._reports, self._decode_at_least = images, reports, decode_at_least
        self._annotations = _annotation_file(annotations)
        self.has_reports = reports is not None

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {"annotations": self._annotations.name, "reports": "files" if self._reports else "none"}

    def entries(self) -> list[Entry]:
        """List the images that have boxes. Raises DataError naming file and row."""
        read = _json_annotations if self._annotations.suffix == ".json" else _csv_annotations
        by_image: dict[str, list[Annotation]] = {}
        for annotation in read(self._annotations):
            _check(annotation)
            by_image.setdefault(annotation.path, []).append(annotation)
        return [_entry(path, annotations) for path, annotations in by_image.items()]

    def record(self, entry: Entry) -> Record:
        """Read one image. Raises DataError when it has not the size that the boxes were drawn in."""
        report = self._reports.read(entry.patient, entry.study, entry.where) if self._reports else ""
        image, full_size = read_reduced(self._images / entry.payload["path"], entry.where, self._decode_at_least)
        if tuple(full_size) != entry.payload["size"]:
            raise DataError(
                f"{entry.where}: the image has {full_size[1]} x {full_size[0]} px and its boxes were drawn in "
                f"{entry.payload['size'][1]} x {entry.payload['size'][0]}: give the images of MIMIC-CXR-JPG in full size"
            )
        return Record(
            image,
            report,
            view=entry.view,
            labels=entry.labels,
            boxes=entry.payload["boxes"],
            full_size=full_size,
        )


def _entry(path: str, annotations: list[Annotation]) -> Entry:
    first = annotations[0]
    ids = _PATH.search(path)
    assert ids is not None, path
    for other in annotations[1:]:
        if (other.split, other.size) != (first.split, first.size):
            raise DataError(f"{other.where}: split or size of its image differ from those in {first.where}")
    found = {annotation.category for annotation in annotations}
    boxes = dict.fromkeys(Box(item.phrase, *item.box, item.category) for item in annotations)
    return Entry(
        patient=ids[1],
        study=ids[2],
        image=ids[3],
        where=first.where,
        split=first.split,
        payload={
            "path": path,
            "size": first.size,
            "boxes": list(boxes),
        },
        view="frontal",
        # What nobody has drawn is not known to be absent.
        labels={name: 1 if name in found else None for name in CATEGORIES},
    )


def _check(annotation: Annotation) -> None:
    if not _PATH.fullmatch(annotation.path):
        raise DataError(
            f"{annotation.where}: its path is not files/p10/p10000032/s50414267/DICOM_ID.jpg; download the file again"
        )
    if annotation.category not in CATEGORIES:
        raise DataError(
            f"{annotation.where}: category {shown_cell(annotation.category)}; expected {', '.join(CATEGORIES)}"
        )
    if not annotation.phrase:
        raise DataError(f"{annotation.where}: its phrase is empty; download the file again")
    x, y, w, h = annotation.box
    height, width = annotation.size
    if not (w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= width + 1 and y + h <= height + 1):
        raise DataError(
            f"{annotation.where}: the box x {x:g}, y {y:g}, w {w:g}, h {h:g} is not inside {width} x {height} px; download "
            "the file again"
        )


def _csv_annotations(path: Path) -> Iterator[Annotation]:
    """Yield the rows; version 1.0.0 has no column of splits, and all of it is for judging."""
    for number, row in read_rows(path, COLUMNS, ("split",)):
        where = place(path, number)
        try:
            x, y, w, h = (float(row[name]) for name in ("x", "y", "w", "h"))
            size = int(float(row["image_height"])), int(float(row["image_width"]))
        except ValueError as error:
            raise DataError(f"{where}: a coordinate is no number; download the table again") from error
        split = _split(row.get("split"), where)
        yield Annotation(where, row["path"], row["category_name"], row["label_text"], (x, y, w, h), size, split)


def _json_annotations(path: Path) -> Iterator[Annotation]:
    """Yield the annotations of the COCO file, whose images are listed once per category."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except ValueError as error:
        raise DataError(f"{path} is no whole JSON ({error}): download it again") from error
    try:
        images = {item["id"]: item for item in content["images"]}
        names = {item["id"]: item["name"] for item in content["categories"]}
        for number, item in enumerate(content["annotations"], start=1):
            where = f"{path.name} annotation {number}"
            image = images[item["image_id"]]
            x, y, w, h = (float(value) for value in item["bbox"])
            size = int(image["height"]), int(image["width"])
            split = _split(item.get("split", image.get("split")), where)
            phrase = str(item["label_text"]).strip()
            yield Annotation(where, image["path"], names[item["category_id"]], phrase, (x, y, w, h), size, split)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no annotation file of MS-CXR: expected images, annotations and categories as COCO has them"
        ) from error


def _split(written: str | None, where: str) -> str:
    if written is None:
        return "test"
    if written not in ("train", "val", "test"):
        raise DataError(f"{where}: split {shown_cell(written)}; expected train, val or test")
    return written


def _annotation_file(path: Path) -> Path:
    if path.is_file():
        if path.suffix not in (".csv", ".json"):
            raise DataError(f"--annotations {path}: expected the .csv or .json of MS-CXR")
        return path
    found = sorted(path.glob(f"{FILES}.csv")) or sorted(path.glob(f"{FILES}.json"))
    if not found:
        raise DataError(
            f"--annotations {path} has no {FILES}.csv or .json: name the file, or the folder of the version"
        )
    if len(found) > 1:
        raise DataError(f"--annotations {path} has {' and '.join(file.name for file in found)}: name one of them")
    return found[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack ms-cxr`."""
    parser.add_argument("--images", type=Path, required=True, help="folder of a version of MIMIC-CXR-JPG, with files/")
    parser.add_argument(
        "--annotations", type=Path, required=True, help="CSV or JSON of MS-CXR, or the folder of its version"
    )
    parser.add_argument(
        "--reports", type=Path, help="folder of the unpacked mimic-cxr-reports.zip, to have reports too"
    )


def from_arguments(arguments: argparse.Namespace) -> MsCxrSource:
    """Build the source from parsed options. Raises DataError."""
    reports = ReportFiles.find(arguments.reports) if arguments.reports else None
    return MsCxrSource(arguments.images, arguments.annotations, reports, decode_at_least=arguments.short_side)
