"""RSNA Pneumonia Detection (Kaggle 2018, stage 2): DICOM with boxes of lung opacities; images of NIH ChestX-ray14 under new names."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import not_utf8, place, read_rows
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.nih_matches import ERROR_COLUMN, WARNING, is_doubtful
from msvl.data.patient_facts import patient_facts
from msvl.data.set_folder import split_files
from msvl.data.shown import shown_cell
from msvl.data.sources import nih_chestxray14 as nih
from msvl.data.study import Box, Entry, Record
from msvl.data.validation_split import train_or_val
from msvl.data.view_names import view_name

logger = logging.getLogger(__name__)
EXAMPLE = (
    "msvl data pack rsna-pneumonia --images rsna --nih-mapping pneumonia-challenge-dataset-mappings_2018.json "
    "--nih-test-list test_list.txt --out shards/rsna"
)
LABELS, CLASSES, IMAGES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "stage_2_train_images"
TEST_IMAGES = "stage_2_test_images"
BOX_COLUMNS = ("x", "y", "width", "height")
PNEUMONIA, NORMAL, OPACITY = "Pneumonia", "Normal", "Lung Opacity"
CLASS_NAMES = (NORMAL, "No Lung Opacity / Not Normal", OPACITY)


@dataclass(frozen=True)
class RsnaOptions:
    """What is read."""

    root: Path
    """Folder with both tables and the images of the training stage; those of the test have no labels there."""
    nih_mapping: Path | None = None
    """RSNA's own JSON of which NIH image each is, or a CSV of patientId, nih_image_index and, where it is known, mse."""
    nih_test_list: Path | None = None
    """NIH's test_list.txt, whose images then are the test split here too (needs the mapping)."""
    test_labels: Path | None = None
    """List of `stage_2_test_images/ID.dcm 0` or `1`: the test stage's images too, whose labels Kaggle never gave to entrants."""
    val_share: float = 0.1
    """Share of the other patients that go to val, with that list."""
    decoding: Decoding = AS_IT_IS


@dataclass(frozen=True)
class NihMatch:
    """Which image of NIH an image is."""

    image: str
    """NIH's Image Index."""
    doubtful: bool = False
    """Whether their pixels differ more than those of one image do."""


class RsnaPneumoniaSource:
    """One entry per image; with the mapping, patients, studies and images have the hashes that they have in NIH ChestX-ray14."""

    name = "rsna-pneumonia"
    licence = "Kaggle competition rules (RSNA Pneumonia Detection Challenge 2018)"
    shareable = False
    has_reports = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, options: RsnaOptions) -> None:
        """Raise DataError when the folder is not there or the list lacks the mapping."""
        if not options.root.is_dir():
            raise DataError(f"--images {options.root}: there is no such folder")
        if options.nih_test_list and not options.nih_mapping:
            raise DataError("--nih-test-list names images of NIH: --nih-mapping must tell which of them are here")
        self._options = options
        self.id_space = nih.ID_SPACE if options.nih_mapping else "rsna-pneumonia"

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        options = self._options
        return {
            "nih_mapping": split_files(options.nih_mapping),
            "nih_test_list": bool(options.nih_test_list),
            "split_files": split_files(options.nih_test_list),
            "test_labels": options.test_labels.name if options.test_labels else "",
            "window": options.decoding.window,
        }

    def entries(self) -> list[Entry]:
        """List the images. Raises DataError naming file and row."""
        options = self._options
        if not options.nih_mapping:
            logger.warning(
                "%s: without --nih-mapping every image is taken for a patient of its own, and 68 %% of a random test split have "
                "their patient in training: figures would be too good",
                self.name,
            )
        mapping = read_mapping(options.nih_mapping) if options.nih_mapping else {}
        doubtful = sum(match.doubtful for match in mapping.values())
        if doubtful:
            logger.warning(WARNING, options.nih_mapping, doubtful)
        test = frozenset(nih.read_list(options.nih_test_list)) if options.nih_test_list else frozenset()
        classes = _read_classes(options.root / CLASSES)
        boxes = _read_boxes(options.root / LABELS)
        unlike = sorted(classes.keys() ^ boxes.keys())
        if unlike:
            raise DataError(
                f"{options.root}: {len(unlike)} patientId stand in only one of {LABELS} and {CLASSES}: download both again"
            )
        trained_on = [
            self._entry(image, where, found, classes[image], mapping, test) for image, (where, found) in boxes.items()
        ]
        tested = _read_test_labels(options.test_labels) if options.test_labels else []
        return [*trained_on, *(self._test_entry(image, where, label, mapping) for image, where, label in tested)]

    def record(self, entry: Entry) -> Record:
        """Read one image. Raises DataError when a box is not inside it."""
        options, path = self._options, Path(entry.payload["path"])
        image, full_size, found = read_radiograph(options.root / path, entry.where, options.decoding)
        facts = patient_facts(sex=found.get("PatientSex", ""), age=found.get("PatientAge", ""))
        for box in entry.payload["boxes"]:
            if box.x + box.w > full_size[1] or box.y + box.h > full_size[0]:
                raise DataError(
                    f"{entry.where}: a box reaches beyond the image of {full_size[1]} x {full_size[0]} px: give the images in "
                    "full size"
                )
        return Record(
            image,
            view=view_name(found.get("ViewPosition", "frontal")),
            labels=entry.labels,
            boxes=entry.payload["boxes"],
            full_size=full_size,
            extra=facts | entry.payload["match"],
        )

    def _entry(
        self, image: str, where: str, boxes: list[Box], kind: str, mapping: dict[str, NihMatch], test: frozenset[str]
    ) -> Entry:
        if bool(boxes) != (kind == OPACITY):
            raise DataError(
                f"{where}: it has {len(boxes)} boxes and is of class '{kind}': take both tables of one stage"
            )
        patient, study, name = self._nih_names(image, where, mapping)
        split = None
        if test:
            split = "test" if name in test else train_or_val(patient, self._options.val_share, self.id_space)
        labels = {PNEUMONIA: int(bool(boxes)), NORMAL: int(kind == NORMAL)}
        payload = {"path": f"{IMAGES}/{image}.dcm", "boxes": boxes, "match": _kept_of(mapping.get(image))}
        return Entry(patient, study, name, where, split, payload, view="frontal", labels=dict(labels))

    def _test_entry(self, image: str, where: str, label: int, mapping: dict[str, NihMatch]) -> Entry:
        patient, study, name = self._nih_names(image, where, mapping)
        payload = {"path": f"{TEST_IMAGES}/{image}.dcm", "boxes": [], "match": _kept_of(mapping.get(image))}
        labels: dict[str, int | None] = {PNEUMONIA: label, NORMAL: None}
        return Entry(patient, study, name, where, "test", payload, view="frontal", labels=labels)

    def _nih_names(self, image: str, where: str, mapping: dict[str, NihMatch]) -> tuple[str, str, str]:
        """Return patient, study and image: NIH's where the mapping is there, else the image for all three."""
        if not self._options.nih_mapping:
            return image, image, image
        if image not in mapping:
            raise DataError(f"{where}: its image is not in --nih-mapping: is it the file of the 2018 challenge?")
        name = mapping[image].image
        return nih.patient_of(name, where), nih.study_of(name), name


def _kept_of(match: NihMatch | None) -> dict[str, str]:
    """Return what a sample keeps of a match: that it is doubtful."""
    return {"nih_match": "doubtful"} if match and match.doubtful else {}


def read_mapping(path: Path) -> dict[str, NihMatch]:
    """Return RSNA patientId -> match, from RSNA's JSON or a CSV of patientId, nih_image_index. Raises DataError."""
    found: dict[str, NihMatch] = {}
    for where, image, match in _json_matches(path) if path.suffix == ".json" else _csv_matches(path):
        if found.setdefault(image, match) != match:
            raise DataError(f"{where}: its image has another match above: leave one of them out")
    return found


def _csv_matches(path: Path) -> Iterator[tuple[str, str, NihMatch]]:
    for number, row in read_rows(path, ("patientId", "nih_image_index"), (ERROR_COLUMN,)):
        where = place(path, number)
        yield where, row["patientId"], NihMatch(row["nih_image_index"], is_doubtful(row.get(ERROR_COLUMN), where))


def _json_matches(path: Path) -> list[tuple[str, str, NihMatch]]:
    if not path.is_file():
        raise DataError(f"--nih-mapping {path}: there is no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [
            (f"{path.name} entry {number}", str(item["subset_img_id"]), NihMatch(str(item["img_id"])))
            for number, item in enumerate(content, start=1)
        ]
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--nih-mapping {path}: expected a list of objects with img_id and subset_img_id, as in "
            "pneumonia-challenge-dataset-mappings_2018.json"
        ) from error


def _read_boxes(path: Path) -> dict[str, tuple[str, list[Box]]]:
    """Return image -> (its first row, boxes): the table has one row per box, and one for an image without."""
    found: dict[str, tuple[str, list[Box]]] = {}
    targets: dict[str, str] = {}
    for number, row in read_rows(path, ("patientId", *BOX_COLUMNS, "Target")):
        where, image = place(path, number), row["patientId"]
        if row["Target"] not in ("0", "1") or targets.setdefault(image, row["Target"]) != row["Target"]:
            raise DataError(
                f"{where}: Target is {shown_cell(row['Target'])}; expected 0 or 1, the same in all rows of an image"
            )
        _, boxes = found.setdefault(image, (where, []))
        cells = [row[name] for name in BOX_COLUMNS]
        if row["Target"] == "0":
            if any(cells):
                raise DataError(f"{where}: a box with Target 0; download the table again")
            continue
        try:
            x, y, w, h = (float(cell) for cell in cells)
        except ValueError as error:
            raise DataError(
                f"{where}: Target is 1 and x, y, width, height are no four numbers; download the table again"
            ) from error
        if not (x >= 0 and y >= 0 and w > 0 and h > 0):
            raise DataError(f"{where}: the box has no place in an image; download the table again")
        boxes.append(Box("lung opacity", x, y, w, h, PNEUMONIA))
    return found


def _read_classes(path: Path) -> dict[str, str]:
    """Return image -> class; an image's row is repeated for each of its boxes."""
    classes: dict[str, str] = {}
    for number, row in read_rows(path, ("patientId", "class")):
        where = place(path, number)
        if row["class"] not in CLASS_NAMES:
            raise DataError(f"{where}: class {shown_cell(row['class'])}; expected {', '.join(CLASS_NAMES)}")
        if classes.setdefault(row["patientId"], row["class"]) != row["class"]:
            raise DataError(f"{where}: its image has another class in a row above: download the table again")
    return classes


def _read_test_labels(path: Path) -> list[tuple[str, str, int]]:
    """Return (image, its line, label) of a list such as MRM's test_list.txt. Raises DataError naming the line."""
    if not path.is_file():
        raise DataError(f"--test-labels {path}: there is no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    found = []
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2 or cells[1] not in ("0", "1"):
            raise DataError(
                f"{path}, line {number}: expected the name of an image and 0 or 1, with a blank between them"
            )
        found.append((Path(cells[0]).name.removesuffix(".dcm"), f"{path}, line {number}", int(cells[1])))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack rsna-pneumonia`."""
    parser.add_argument("--images", type=Path, required=True, help=f"folder with {LABELS}, {CLASSES} and {IMAGES}/")
    parser.add_argument(
        "--nih-mapping",
        type=Path,
        metavar="FILE",
        help="which NIH image each is: pneumonia-challenge-dataset-mappings_2018.json of RSNA, or a CSV of patientId, "
        "nih_image_index and, where known, mse. Splits are then by NIH patient",
    )
    parser.add_argument(
        "--nih-test-list",
        type=Path,
        metavar="FILE",
        help="test_list.txt of NIH: its images are the test split here too",
    )
    parser.add_argument(
        "--test-labels",
        type=Path,
        metavar="FILE",
        help=f"list of {TEST_IMAGES}/ID.dcm and 0 or 1, as MRM's test_list.txt: these images are packed as test too",
    )
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> RsnaPneumoniaSource:
    """Build the source from parsed options. Raises DataError."""
    return RsnaPneumoniaSource(
        RsnaOptions(
            root=arguments.images,
            nih_mapping=arguments.nih_mapping,
            nih_test_list=arguments.nih_test_list,
            test_labels=arguments.test_labels,
            val_share=arguments.val_share,
            decoding=Decoding.from_arguments(arguments),
        )
    )
