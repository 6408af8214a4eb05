"""RSNA Pneumonia Detection, stage 2: DICOM of the miniature of NIH ChestX-ray14 under new names, with the mapping between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydicom import uid

from msvl.data.phantom.miniatures import nih_chestxray14 as nih
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.phantom.miniatures.material import MiniatureStudy, hex_id, write_table, write_text
from msvl.data.study import Box

ROOT = "rsna-pneumonia-detection-challenge"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write the images, both tables, RSNA's mapping to the images of NIH, and NIH's list of test images.

    With the quirks of the original: a row per box in both tables, ids that are of images and not of patients, ages as bare
    numbers, one of them wrong, boxes as whole numbers written with a point.
    """
    labels, classes, mapping = [], [], []
    for study in studies:
        name = image_id(study)
        boxes = _boxes(study)
        kind = "Lung Opacity" if boxes else "No Lung Opacity / Not Normal" if any(study.labels.values()) else "Normal"
        labels += [[name, float(box.x), float(box.y), float(box.w), float(box.h), 1] for box in boxes] or [
            [name, "", "", "", "", 0]
        ]
        classes += [[name, kind]] * max(1, len(boxes))
        mapping.append(
            {"img_id": nih.image_index(study), "subset_img_id": name, "SOPInstanceUID": f"1.2.{study.number}"}
        )
        write_dicom(
            folder / ROOT / "stage_2_train_images" / f"{name}.dcm", nih.as_published(study), bits=8, syntax=uid.JPEGBaseline8Bit,
            Modality="CR", ConversionType="WSD", ViewPosition=("PA", "AP")[study.number % 2], PatientSex=study.sex,
            PatientAge="151" if study.number == 4 else str(study.age), PatientID=name,
        )  # fmt: skip
    write_table(
        folder / ROOT / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), labels
    )
    write_table(folder / ROOT / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
    write_text(folder / MAPPING, json.dumps(mapping))
    write_text(
        folder / "test_list.txt", "\n".join(nih.image_index(study) for study in studies if study.split == "test")
    )


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["rsna-pneumonia", "--images", str(folder / ROOT), "--nih-mapping", str(folder / MAPPING),
            "--nih-test-list", str(folder / "test_list.txt")]  # fmt: skip


def image_id(study: MiniatureStudy) -> str:
    """Return the id that the tables call patientId."""
    digits = hex_id("rsna", study.number, digits=32)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _boxes(study: MiniatureStudy) -> list[Box]:
    """Return boxes of whole pixels around consolidations; every other image has two that share one lesion."""
    whole = [
        Box(box.phrase, int(box.x), int(box.y), max(2, int(box.w)), max(2, int(box.h)))
        for box in study.boxes
        if box.finding == "consolidation"
    ]
    if len(whole) == 1 and study.number % 4 == 0:
        box = whole[0]
        upper, lower = box.h // 2, box.h - box.h // 2
        return [Box(box.phrase, box.x, box.y, box.w, upper), Box(box.phrase, box.x, box.y + upper, box.w, lower)]
    return whole
