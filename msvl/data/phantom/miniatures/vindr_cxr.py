"""VinDr-CXR 1.0.0: DICOM stripped of nearly all tags, tables of three readers and of the consensus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid

from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.phantom.miniatures.material import MiniatureStudy, hex_id, write_table
from msvl.data.sources.vindr_cxr import EDGES, FINDINGS, NORMAL, OTHER

ROOT = "vindr-cxr/1.0.0"
NAMES = {
    "effusion": "Pleural effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Nodule/Mass",
}
READERS = ("R8", "R9", "R10")


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write images and the four tables; patients of val are in train, as in the official split.

    With the quirks of the original: no ids, views or modality in the headers, MONOCHROME1, JPEG 2000, several windows, files of
    16 bits that hold 8-bit values, `Other diseases` in one table and `Other disease` in the other, a reader who disagrees.
    """
    labels: dict[str, list[list[object]]] = {"train": [], "test": []}
    boxes: dict[str, list[list[object]]] = {"train": [], "test": []}
    for study in studies:
        split = "test" if study.split == "test" else "train"
        name = image_id(study)
        _write_image(folder / ROOT / split / f"{name}.dicom", study)
        for reader in READERS if split == "train" else ("",):
            named = [reader] if reader else []
            found = _seen(study, reader)
            labels[split].append([name, *named, *(int(finding in found) for finding in FINDINGS)])
            boxes[split] += [[name, *named, *row] for row in _box_rows(study, found, reader)]
    for split, readers in (("train", ("rad_id",)), ("test", ())):
        findings = ["Other disease" if finding == OTHER and split == "test" else finding for finding in FINDINGS]
        tables = folder / ROOT / "annotations"
        write_table(tables / f"image_labels_{split}.csv", ("image_id", *readers, *findings), labels[split])
        write_table(tables / f"annotations_{split}.csv", ("image_id", *readers, "class_name", *EDGES), boxes[split])


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["vindr-cxr", "--images", str(folder / ROOT)]


def image_id(study: MiniatureStudy) -> str:
    """Return 32 hexadecimal digits."""
    return hex_id("vindr", study.number, digits=32)


def _write_image(path: Path, study: MiniatureStudy) -> None:
    image, bits = study.frontal.astype(np.uint16) * 16, 12
    tags: dict[str, Any] = {"WindowCenter": [2048, 1500], "WindowWidth": [4096, 2000]}
    if study.number % 4 == 1:
        image, tags["PhotometricInterpretation"] = 4095 - image, "MONOCHROME1"
    elif study.number % 5 == 2:
        image, bits = study.frontal.astype(np.uint16), 14
    syntax = (uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless)[study.number % 3 == 0]
    write_dicom(path, image, bits=bits, syntax=syntax, PatientSex=study.sex, PatientAge=f"{study.age:03d}Y", **tags)


def _seen(study: MiniatureStudy, reader: str) -> set[str]:
    """Return what a reader sees; R10 overlooks nodules, and sees an aortic enlargement in every fifth image."""
    found = {NAMES[name] for name, state in study.labels.items() if state}
    if reader == "R10":
        found -= {"Nodule/Mass"}
        if study.number % 5 == 0:
            found.add("Aortic enlargement")
    return found or {NORMAL}


def _box_rows(study: MiniatureStudy, found: set[str], reader: str) -> list[list[object]]:
    shift = {"": 0.0, "R8": 0.0, "R9": 0.5, "R10": -0.5}[reader]
    rows: list[list[object]] = [
        [NAMES[box.finding], max(0.0, box.x + shift), max(0.0, box.y + shift), box.x + box.w, box.y + box.h]
        for box in study.boxes
        if NAMES.get(box.finding) in found
    ]
    if "Aortic enlargement" in found:
        rows.append(["Aortic enlargement", 10.25, 10.25, 30.75, 30.75])
    return rows or [[NORMAL, "", "", "", ""]]
