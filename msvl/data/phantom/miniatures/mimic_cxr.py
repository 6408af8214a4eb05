"""MIMIC-CXR 2.1.0: DICOM and reports, beside the miniature of MIMIC-CXR-JPG whose tables it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import uid

from msvl.data.phantom.miniatures import mimic_cxr_jpg as jpg
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.phantom.miniatures.material import MiniatureStudy, write_table

SYNTAXES = (uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless, uid.JPEGLSLossless)


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write what PhysioNet serves of both projects.

    With the quirks of the original: reports in the folders of patients and not of studies, MONOCHROME1, an image compressed by
    gzip, lists of images and studies that nothing needs.
    """
    jpg.write(folder, studies)
    root = folder / jpg.REPORTS
    records, reports = [], []
    for study in studies:
        subject, number = jpg.subject_id(study), jpg.study_id(study)
        for view, image in (("PA", study.frontal), ("LATERAL", study.lateral)):
            path = jpg.image_path(study, view).replace(".jpg", ".dcm")
            if not (folder / jpg.JPG / jpg.image_path(study, view)).is_file():
                continue
            _write_image(root / path, image, study)
            records.append([subject, number, jpg.dicom_id(study, view), path])
        reports.append([subject, number, f"files/p{subject[:2]}/p{subject}/s{number}.txt"])
    write_table(root / "cxr-record-list.csv.gz", ("subject_id", "study_id", "dicom_id", "path"), records)
    write_table(root / "cxr-study-list.csv.gz", ("subject_id", "study_id", "path"), reports)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    root = folder / jpg.REPORTS
    return [
        "mimic-cxr",
        "--images",
        str(root),
        "--reports",
        str(root / "mimic-cxr-reports"),
        "--tables",
        str(folder / jpg.JPG),
    ]


def _write_image(path: Path, image: np.ndarray, study: MiniatureStudy) -> None:
    stored = image.astype(np.uint16) * 16
    tags = {"WindowCenter": 2000, "WindowWidth": 3600, "PatientSex": study.sex, "PatientAge": f"{study.age:03d}Y"}
    if study.number % 4 == 3:
        stored, tags["PhotometricInterpretation"] = 4095 - stored, "MONOCHROME1"
    path = path.with_name(f"{path.name}.gz") if study.number % 6 == 5 else path
    write_dicom(path, stored, bits=12, syntax=SYNTAXES[study.number % 3], **tags)
