"""MIMIC-CXR-JPG 2.1.0 and the reports of MIMIC-CXR, in the folders that PhysioNet serves."""

from __future__ import annotations

import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

from msvl.data.label_states import CHEXPERT_FINDINGS
from msvl.data.phantom.miniatures.material import MiniatureStudy, hex_id, write_image, write_table

JPG, REPORTS = "mimic-cxr-jpg/2.1.0", "mimic-cxr/2.1.0"
METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate",
    "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
SPLITS = {"train": "train", "val": "validate", "test": "test"}
RULE = "_" * 79


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write images, tables and the zip of reports.

    With the quirks of the original: StudyTime as a float without its leading zeros, views that only ViewCodeSequence tells,
    laterals, a study without a row of labels and one whose row is blank, uncertain labels, no reports in the tree of images, reports with addenda, wet
    reads, headings without a blank, two findings sections and a report without any heading.
    """
    metadata, splits, labels, test = [], [], [], []
    names = sorted(CHEXPERT_FINDINGS)
    for study in studies:
        subject, number = subject_id(study), study_id(study)
        for view, image in (("PA", study.frontal), ("LATERAL", study.lateral)):
            if view == "LATERAL" and study.number % 3:
                continue
            name = dicom_id(study, view)
            meaning = {"PA": "postero-anterior", "LATERAL": "lateral"}[view]
            shown = "" if study.number % 5 == 2 else view
            day = 21800101 + study.number
            metadata.append([name, subject, number, "CHEST (PA AND LAT)", shown, *image.shape, day, "80556.875",
                             "CHEST (PA AND LAT)", meaning, "Erect" if study.number % 2 else ""])  # fmt: skip
            splits.append([name, number, subject, SPLITS[study.split]])
            write_image(folder / JPG / image_path(study, view), image)
        cells = study.chexpert_labels()
        if study.number != 3:
            blank = study.number == 4
            labels.append([subject, number, *("" if blank else cells.get(finding, "") for finding in names)])
        if study.split == "test":
            test.append([number, *(cells.get(finding, "0") for finding in names)])
    tables = folder / JPG
    write_table(tables / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, metadata)
    write_table(tables / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), splits)
    for labeller in ("chexpert", "negbio"):
        write_table(tables / f"mimic-cxr-2.0.0-{labeller}.csv.gz", ("subject_id", "study_id", *names), labels)
    renamed = ["Airspace Opacity" if finding == "Lung Opacity" else finding for finding in names]
    write_table(tables / "mimic-cxr-2.1.0-test-set-labeled.csv", ("study_id", *renamed), test)
    _write_reports(folder / REPORTS, studies)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["mimic-cxr-jpg", "--images", str(folder / JPG), "--reports", str(folder / REPORTS / "mimic-cxr-reports")]


def subject_id(study: MiniatureStudy) -> str:
    """Return 8 digits that begin with 1."""
    return f"{10000032 + 1009 * study.patient:08d}"


def study_id(study: MiniatureStudy) -> str:
    """Return 8 digits that begin with 5, in no order of time."""
    return f"5{int(hex_id('study', study.number, digits=8), 16) % 10_000_000:07d}"


def dicom_id(study: MiniatureStudy, view: str) -> str:
    """Return 40 hexadecimal digits in 5 groups."""
    return "-".join(textwrap.wrap(hex_id("dicom", study.number, view, digits=40), 8))


def image_path(study: MiniatureStudy, view: str) -> str:
    """Return where the image lies below the folder of MIMIC-CXR-JPG."""
    subject = subject_id(study)
    return f"files/p{subject[:2]}/p{subject}/s{study_id(study)}/{dicom_id(study, view)}.jpg"


def report(study: MiniatureStudy) -> str:
    """Return a report in one of the forms that MIMIC-CXR has, each line with a blank in front."""
    findings, impression = textwrap.fill(study.findings, 77), textwrap.fill(study.impression, 77)
    forms = (
        f"FINAL REPORT\nEXAMINATION:  CHEST (PA AND LAT)\n\nINDICATION:  ___F with cough  // acute process?\n\n"
        f"COMPARISON:  ___.\n\nFINDINGS: \n\n{findings}\n\nIMPRESSION: \n\n{impression}",
        f"ADDENDUM  Discussed by phone at 3:04 p.m.\n{RULE}\nFINAL REPORT\nFINDINGS:{findings}\n\nIMPRESSION:\n1. {impression}",
        f"WET READ: ___ ___ 3:04 PM\nNo acute process.\n{RULE}\nFINAL REPORT\nCHEST, PA AND LATERAL:\n\n{findings}\n\n"
        f"IMPRESSION:  AP chest compared to ___:\n\n{impression}",
        f"FINAL REPORT\nHISTORY:  Cough.\n\nFINDINGS AND IMPRESSION:  {findings}\n{impression}",
        f"FINAL REPORT\n{findings}\n\n{impression}",
    )
    text = forms[study.number % len(forms)]
    return "".join(f" {line}\n" if line else "\n" for line in text.split("\n"))


def _write_reports(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "mimic-cxr-reports.zip", "w") as archive:
        for study in studies:
            subject = subject_id(study)
            archive.writestr(f"files/p{subject[:2]}/p{subject}/s{study_id(study)}.txt", report(study))
        archive.extractall(folder / "mimic-cxr-reports")
