"""CheXpert Plus: PNG images, the table with reports in sections, CheXbert's labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid

from msvl.data.label_states import CHEXPERT_FINDINGS
from msvl.data.phantom.miniatures.chexpert import patient_id
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.phantom.miniatures.material import MiniatureStudy, write_image, write_table, write_text

ROOT = "chexpertplus"
HEADER = (
    "", "path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report",
    "section_narrative", "section_clinical_history", "section_history", "section_comparison", "section_technique",
    "section_procedure_comments", "section_findings", "section_impression", "section_end_of_impression", "section_summary",
    "section_accession_number", "age", "sex", "race", "ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased",
    "split",
)  # fmt: skip
CLOSING = "ACCESSION NUMBER:\n1234567\nThis report has been anonymized. All dates are offset from the actual dates by a fixed interval."
"""How whole reports end."""


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write images nested as PNG/PNG, table and labels. The official set has no test split: those patients are in valid.

    With the quirks of the original: an unnamed first column, .jpg in the table and .png on disk, JSON lines called .json,
    reports in capitals, line ends in cells, broken characters, findings that are empty or NaN, a report whose sections are all
    empty, accession numbers and closing words,
    a study's order in time that is not its number, a partial download beside the images, DICOM files without HighBit and of
    MONOCHROME1.
    """
    rows: list[list[object]] = []
    labels: list[dict[str, object]] = []
    for study in studies:
        split = "train" if study.split == "train" else "valid"
        tail = f"{split}/{patient_id(study)}/study{study.study + 1}"
        for kind, number in (("frontal", 1), ("lateral", 2)):
            if kind == "lateral" and study.number % 2:
                continue
            path = f"{tail}/view{number}_{kind}"
            _write_images(folder / ROOT, path, study.frontal if kind == "frontal" else study.lateral, study.number)
            side = ("AP", "PA")[study.number % 2] if kind == "frontal" else ""
            rows.append([len(rows), f"{path}.jpg", f"{path}.dcm", kind.capitalize(), side, *_row(study, split)])
            labels.append({"path_to_image": f"{path}.jpg", **_labels(study)})
    (folder / ROOT / "PNG" / "PNG" / tail / ".azDownload-1f-view9_frontal.png").write_bytes(b"\x89PNG")
    write_table(folder / ROOT / "df_chexpert_plus_240401.csv", HEADER, rows)
    for text in ("report", "impression", "findings"):
        lines = "".join(f"{json.dumps(row)}\n" for row in labels)
        write_text(folder / ROOT / "chexbert_labels" / f"{text}_fixed.json", lines)


def _write_images(root: Path, path: str, image: np.ndarray, number: int) -> None:
    """Write PNG and both forms of DICOM; every other DICOM file is MONOCHROME1, every third has no HighBit."""
    write_image(root / "PNG" / "PNG" / f"{path}.png", image)
    tags: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1" if number % 2 else "MONOCHROME2"}
    stored = 255 - image if number % 2 else image
    if number % 3 == 0:
        tags["HighBit"] = None
    for folder, syntax in (("Compressed", uid.JPEG2000Lossless), ("Uncompressed", uid.ExplicitVRLittleEndian)):
        write_dicom(root / "DICOM" / folder / f"{path}.dcm", stored, bits=8, syntax=syntax, **tags)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["chexpert-plus", "--images", str(folder / ROOT)]


def _row(study: MiniatureStudy, split: str) -> list[object]:
    findings, impression = study.findings, f"\n1. {study.impression}"
    if study.number % 3 == 0:
        findings, impression = findings.upper(), impression.upper()
    if study.number % 4 == 1:
        findings = ("", "nan")[study.number % 8 == 1]
    if study.number % 5 == 2:
        impression = impression.replace(" ", " \ufffd\ufffd", 1)
    report = f"NARRATIVE:\nChest radiograph.\n\nFINDINGS:\n{findings}\n\nIMPRESSION:{impression}\n\n{CLOSING}"
    sections = ["Chest radiograph.", "", "Cough.", "None.", "", "", findings, impression, "", "", "1234567"]
    if study.number % 6 == 4:
        sections = [""] * len(sections)
    # The later study has the smaller number.
    return [patient_id(study), 2 - study.study, report, *sections, float(study.age), {"M": "Male", "F": "Female"}[study.sex],
            ("White", "Black", "Unknown")[study.patient % 3], "Non-Hispanic/Non-Latino", "No", "Private Insurance", 22.2, "No", split]  # fmt: skip


def _labels(study: MiniatureStudy) -> dict[str, float | None]:
    cells = study.chexpert_labels()
    return {name: float(cells[name]) if name in cells else None for name in CHEXPERT_FINDINGS}
