"""NIH ChestX-ray14: PNG in numbered folders, the table of 2020, lists of the official split, boxes, Google's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from msvl.data.phantom.miniatures.material import MiniatureStudy, write_image, write_text

ROOT = "ChestXray-NIHCC"
NAMES = {
    "effusion": "Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Nodule",
}
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
    "OriginalImagePixelSpacing[x,y]"
)
BOX_SIDE = 1024
RELABELS = "google2019_nih-chest-xray-labels.csv"
RELABELLED = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write images, table, lists, boxes and Google's labels of val and test; patients of val are in train_val_list.txt, as in the official split.

    With the quirks of the original: commas inside the names of columns, a header of boxes with more cells than its rows,
    `Infiltrate` for a box of Infiltration, an image with an alpha channel, numbers of images that are not the follow-up number, lines of
    Google's table that end in CRLF.
    """
    root = folder / ROOT
    relabels = [f"{HEADER},{','.join(RELABELLED)},Set Id"]
    rows, boxes = [HEADER], ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for study in studies:
        name = image_index(study)
        image = study.frontal
        if study.number == 2:
            image = np.dstack([image, image, image, np.full_like(image, 255)])
        write_image(root / f"images_{1 + study.patient % 12:03d}" / "images" / name, image)
        found = [NAMES[finding] for finding, state in study.labels.items() if state]
        if study.number % 7 == 3:
            found.append("Infiltration")
        rows.append(
            f"{name},{'|'.join(found) or 'No Finding'},{study.study},{study.patient + 1},{study.age},{study.sex},"
            f"{('PA', 'AP')[study.number % 2]},2894,2729,0.143,0.143"
        )
        lists["test_list.txt" if study.split == "test" else "train_val_list.txt"].append(name)
        if study.split != "train":
            relabels.append(f"{rows[-1]},{','.join(_answers(study))},{study.split}")
        if study.split == "test":
            boxes += _box_rows(study, infiltrate="Infiltration" in found)
    write_text(root / "Data_Entry_2017_v2020.csv", "\n".join(rows) + "\n")
    write_text(root / "BBox_List_2017.csv", "\n".join(boxes) + "\n")
    write_text(folder / RELABELS, "\r\n".join(relabels) + "\r\n")
    for name, images in lists.items():
        write_text(root / name, "\n".join(images))


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["nih-chestxray14", "--images", str(folder / ROOT)]


def relabelled_words(folder: Path) -> list[str]:
    """Return those for the images that Google's table labels again."""
    return [*pack_words(folder), "--relabels", str(folder / RELABELS)]


def image_index(study: MiniatureStudy) -> str:
    """Return the patient in 8 digits, and the number of the image, which is not that of the follow-up."""
    return f"{study.patient + 1:08d}_{study.study + study.patient % 2:03d}.png"


def as_published(study: MiniatureStudy) -> np.ndarray:
    """Return the image as RSNA and SIIM took it over."""
    return cv2.GaussianBlur(study.frontal, (3, 3), 0.4)


def _answers(study: MiniatureStudy) -> list[str]:
    """Return what Google's readers say of RELABELLED; the phantom breaks no bones."""
    found = (0, *(study.labels[name] for name in ("pneumothorax", "consolidation", "nodule")))
    return [("NO", "YES")[state] for state in found]


def _box_rows(study: MiniatureStudy, *, infiltrate: bool) -> list[str]:
    scale = BOX_SIDE / study.frontal.shape[0]
    rows = [
        f"{image_index(study)},{NAMES[box.finding]},{box.x * scale},{box.y * scale},{box.w * scale},{box.h * scale}"
        for box in study.boxes
        if box.finding in NAMES
    ]
    return [*rows, f"{image_index(study)},Infiltrate,10.5,20.5,300.0,400.0"] if infiltrate else rows
