"""SIIM-ACR Pneumothorax: DICOM in folders by study and series with run-length masks, and the copy in PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from pydicom import uid

from msvl.data.image_files import read_radiograph
from msvl.data.phantom.miniatures import nih_chestxray14 as nih
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.phantom.miniatures.material import MiniatureStudy, hex_id, write_image, write_table, write_text

ROOT, PNG_ROOT = "siim-acr", "siim-acr-pneumothorax"
PREFIX = "1.2.276.0.7230010.3.1"


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write the images in the folders of both stages, and the table; beside them the copy with names and tables of its own.

    With the quirks of the original: a blank before `EncodedPixels` and before some `-1`, two masks of one image that overlap,
    ids of patients that stand in the DICOM header only, the view in SeriesDescription.
    """
    rows = ["ImageId, EncodedPixels"]
    copies: dict[str, list[list[object]]] = {"train": [], "test": []}
    for number, study in enumerate(studies):
        name = image_id(study)
        stage = "test" if study.split == "test" else "train"
        place = Path(f"dicom-images-{stage}", f"{PREFIX}.2.{study.number + 1}", f"{PREFIX}.3.{study.number + 1}")
        path = folder / ROOT / place / f"{name}.dcm"
        write_dicom(
            path, nih.as_published(study), bits=8, syntax=uid.JPEGBaseline8Bit, SeriesDescription="view: PA",
            PatientID=hex_id("siim patient", study.patient, digits=32), PatientSex=study.sex, PatientAge=str(study.age),
        )  # fmt: skip
        masks = _masks(study)
        blank = " " if study.number % 2 else ""
        rows += [f"{name},{encode_runs(mask)}" for mask in masks] or [f"{name},{blank}-1"]
        copy = f"{number}_{stage}_{int(bool(masks))}_.png"
        _write_copy(folder / PNG_ROOT, copy, read_radiograph(path, name)[0], masks)
        copies[stage].append([copy, name, int(bool(masks))])
    write_text(folder / ROOT / "train-rle.csv", "\n".join(rows) + "\n")
    for stage, own in copies.items():
        write_table(folder / PNG_ROOT / f"stage_1_{stage}_images.csv", ("new_filename", "ImageId", "has_pneumo"), own)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["siim-acr", "--images", str(folder / ROOT)]


def png_words(folder: Path) -> list[str]:
    """Return those for the copy in PNG."""
    return ["siim-acr", "--images", str(folder / PNG_ROOT)]


def image_id(study: MiniatureStudy) -> str:
    """Return the id of the image, which is the name of its file."""
    return f"{PREFIX}.4.8323329.{study.number + 1}.1517875163.{study.number + 187330}"


def encode_runs(mask: np.ndarray) -> str:
    """Return pairs of start, from the end of the run before, and length, down the columns."""
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))
    return " ".join(map(str, np.diff(np.concatenate([[0], edges]))))


def _write_copy(root: Path, name: str, pixels: np.ndarray, masks: Sequence[np.ndarray]) -> None:
    write_image(root / "png_images" / name, pixels)
    joined = np.logical_or.reduce([np.zeros(pixels.shape, dtype=bool), *masks])
    write_image(root / "png_masks" / name, joined.astype(np.uint8) * 255)


def _masks(study: MiniatureStudy) -> list[np.ndarray]:
    """Return a mask per pneumothorax, and for every other image a second that overlaps the first."""
    masks = []
    for box in study.boxes:
        if box.finding == "pneumothorax":
            mask = np.zeros(study.frontal.shape, dtype=np.uint8)
            centre = (round(box.x + box.w / 2), round(box.y + box.h / 2))
            cv2.ellipse(mask, centre, (max(1, round(box.w / 2)), max(1, round(box.h / 2))), 0, 0, 360, 1, -1)
            masks.append(mask.astype(bool))
    if masks and study.number % 2:
        masks.append(masks[0] & (np.indices(masks[0].shape)[0] > np.flatnonzero(masks[0].any(axis=1)).mean()))
    return masks
