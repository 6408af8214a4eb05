"""SIIM-ACR Pneumothorax in the PNG copy of Kaggle (vbookshelf): images and masks under new names, two tables by stage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.images import read_reduced
from msvl.data.label_states import label_state
from msvl.data.sources.table_masks import TableMasks
from msvl.data.study import Entry, Record
from msvl.data.validation_split import train_or_val

logger = logging.getLogger(__name__)
FINDING = "Pneumothorax"
TABLES = {"stage_1_train_images.csv": "train", "stage_1_test_images.csv": "test"}
"""Table -> split of the competition's first stage."""
IMAGES, MASKS = "png_images", "png_masks"
NAME, IMAGE_ID, HAS_FINDING = "new_filename", "ImageId", "has_pneumo"


class SiimAcrSet:
    """What holds for the data set, in whichever files."""

    name = "siim-acr"
    id_space = "siim-acr"
    licence = "Kaggle competition rules (SIIM-ACR Pneumothorax Segmentation 2019)"
    shareable = False
    has_reports = False
    mask_names = (FINDING,)
    prompts: dict[str, dict[str, list[str]]] = {}


class SiimAcrPngSource(SiimAcrSet):
    """One entry per image of the tables. PNG has no header, so whose image it is, its view, sex and age are not known."""

    def __init__(self, root: Path, *, val_share: float = 0.1, decode_at_least: int = 0) -> None:
        """Raise DataError when a table or a folder is not there.

        Args:
            root: Folder with both tables, png_images/ and png_masks/.
            val_share: Share of the images of the training table that go to val.
            decode_at_least: Short side in pixels that copies as JPEG may be reduced to, 0 the whole.
        """
        missing = [name for name in (*TABLES, IMAGES, MASKS) if not (root / name).exists()]
        if missing:
            raise DataError(f"--images {root} has no {', '.join(missing)}: unpack the whole copy there")
        self._root, self._val_share, self._decode_at_least = root, val_share, decode_at_least
        self._masks = TableMasks(root / MASKS, NAME, FINDING)

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {"table": list(TABLES), "val_share": self._val_share}

    def entries(self) -> list[Entry]:
        """List the images of both tables. Raises DataError naming the row."""
        logger.warning(
            "%s: PNG names no patient, so every image counts as one of its own: images of one patient can be in train and test; the "
            "DICOM of the competition tells patients",
            self.name,
        )
        found: dict[str, Entry] = {}
        for name, split in TABLES.items():
            for number, row in read_rows(self._root / name, (NAME, IMAGE_ID, HAS_FINDING)):
                entry = self._entry(row, place(self._root / name, number), split)
                if found.setdefault(entry.image, entry) is not entry:
                    raise DataError(
                        f"{entry.where}: its image has a row above or in the other table: download both again"
                    )
        return list(found.values())

    def record(self, entry: Entry) -> Record:
        """Read one image and its mask. Raises DataError naming the row of a mask that its table contradicts."""
        image, full_size = read_reduced(self._root / entry.payload["path"], entry.where, self._decode_at_least)
        mask = self._masks.read(Path(entry.payload["path"]).name, full_size, entry.where)
        if mask.any() != bool(entry.labels[FINDING]):
            raise DataError(
                f"{entry.where}: {HAS_FINDING} says {entry.labels[FINDING]} and the mask is {'not ' if mask.any() else ''}empty"
            )
        return Record(image, view=entry.view, labels=entry.labels, masks={FINDING: mask}, full_size=full_size)

    def _entry(self, row: dict[str, str], where: str, split: str) -> Entry:
        file, image = row[NAME], row[IMAGE_ID]
        label = label_state(row[HAS_FINDING], where, HAS_FINDING)
        if not image or not file.endswith(".png") or "/" in file or label not in (0, 1):
            raise DataError(
                f"{where}: expected the name of a .png, an {IMAGE_ID}, and 0 or 1; download the table again"
            )
        own = split if split == "test" else train_or_val(image, self._val_share, self.id_space)
        return Entry(
            patient=image, study=image, image=image, where=where, split=own, payload={"path": f"{IMAGES}/{file}"},
            view="frontal", labels={FINDING: label},
        )  # fmt: skip
