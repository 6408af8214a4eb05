"""PadChest: 16-bit PNG in numbered folders and one table with lists in its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msvl.data.phantom.miniatures.material import MiniatureStudy, hex_id, write_image, write_table

ROOT = "PadChest"
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
NAMES = {
    "effusion": "pleural effusion",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "cardiomegaly": "cardiomegaly",
    "nodule": "nodule",
}
HEADER = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "ViewPosition_DICOM",
    "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM", "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM", "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM",
    "WindowWidth_DICOM", "Rows_DICOM", "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM",
    "ExposureTime_DICOM", "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write images and table; the data set has no split.

    With the quirks of the original: an unnamed first column, ids of patients too long for a number, lists with blanks and with
    empty names, line ends in cells, arrays without commas, years of birth with a point, laterals, ViewPosition_DICOM that is wrong where Projection is
    right, values of 12 bits in 16.
    """
    rows: list[list[object]] = []
    for study in studies:
        for projection, image in (("PA", study.frontal), ("L", study.lateral)):
            if projection == "L" and study.number % 3:
                continue
            name = image_id(study, projection)
            directory = (0, 12, 54)[study.patient % 3]
            write_image(folder / ROOT / "images" / str(directory) / name, image.astype(np.uint16) * 16)
            rows.append(_row(study, len(rows), name, directory, projection))
    write_table(folder / ROOT / TABLE, HEADER, rows)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["padchest", "--images", str(folder / ROOT)]


def patient_id(study: MiniatureStudy) -> str:
    """Return 38 digits."""
    return str(20536686640136348236148679891455886000 + study.patient)


def image_id(study: MiniatureStudy, projection: str) -> str:
    """Return the name of a file in one of the two forms that there are."""
    if study.number % 4 == 3:
        return f"{patient_id(study)}_02-{study.number:03d}-{dict(PA=190, L=191)[projection]}.png"
    return f"{patient_id(study)}_{hex_id('padchest', study.number, projection, digits=6)}.png"


def _row(study: MiniatureStudy, number: int, name: str, directory: int, projection: str) -> list[object]:
    found = [NAMES[finding] for finding, state in study.labels.items() if state] or ["normal"]
    labels = str([*found, "", f" {found[0]}"])
    if len(found) > 1:
        labels = labels.replace(", ", ",\n ", 1)
    cells = {
        "": number,
        "ImageID": name,
        "ImageDir": directory,
        "StudyDate_DICOM": 20131219 + study.study,
        "StudyID": str(10**37 + study.number),
        "PatientID": patient_id(study),
        "PatientBirth": f"{2013 - study.age}.0",
        "PatientSex_DICOM": study.sex,
        "ViewPosition_DICOM": "POSTEROANTERIOR" if study.number % 4 else "LATERAL",
        "Projection": projection,
        "BitsStored_DICOM": 12,
        "ReportID": 4000000 + study.number,
        "Report": "sin hallazg patolog . silu cardi normal .",
        "MethodLabel": ("Physician", "RNN_model")[study.number % 2],
        "Labels": labels,
        "Localizations": "['loc  basal bilateral']",
        "labelCUIS": "['C0025552' 'C4273001' '' 'C0016542']",
    }
    return [cells.get(column, "") for column in HEADER]
