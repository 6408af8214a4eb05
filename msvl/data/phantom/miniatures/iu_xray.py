"""IU X-ray: reports in XML in their archive, PNG and DICOM of the same images, the table of projections of the Kaggle release."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
from pydicom import uid

from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.phantom.miniatures.material import MiniatureStudy, write_image, write_table

REPORTS, PNG, DICOM, PROJECTIONS = "NLMCXR_reports.tgz", "NLMCXR_png", "NLMCXR_dcm", "indiana_projections.csv"
PRIVATE = {
    "PatientBirthDate": "19410203",
    "ReasonForTheRequestedProcedure": "fall from a ladder",
    "StudyDate": "20130801",
}
"""What headers hold and nobody may read."""
LICENCE = "http://creativecommons.org/licenses/by-nc-nd/4.0/"


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write reports, images and projections; the data set has no split and no patients.

    With the quirks of the original: sections that are empty elements, XXXX in the place of words, image ids of four blocks and one
    with its number twice, colour PNG, DICOM of 15 bits in MONOCHROME1 with an inverse presentation, ViewPosition PA on laterals too, dates of birth and reasons
    in headers, terms with a blank at their end, terms that a program gave, a report without images.
    """
    views: list[list[object]] = []
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / REPORTS, "w:gz") as archive:
        for study in studies:
            number = study.number + 1
            names = _names(number)
            _add(archive, f"ecgen-radiology/{number}.xml", report_xml(number, _sections(study), _terms(study), names))
            for name, image, projection in zip(
                names, (study.frontal, study.lateral), ("Frontal", "Lateral"), strict=True
            ):
                write_image(folder / PNG / f"{name}.png", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
                stem = name.removeprefix("CXR").replace("1_1_", "1_") if number == 1 else name.removeprefix("CXR")
                _write_dicom(folder / DICOM / str(number) / f"{stem}.dcm", image, study)
                views.append([number, f"{stem}.dcm.png", projection])
        _add(archive, "ecgen-radiology/3999.xml", report_xml(3999, {"IMPRESSION": "No acute disease."}, ["normal"], []))
    write_table(folder / PROJECTIONS, ("uid", "filename", "projection"), views)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["iu-xray", "--images", str(folder / PNG), "--reports", str(folder / REPORTS),
            "--projections", str(folder / PROJECTIONS)]  # fmt: skip


def report_xml(number: int, sections: dict[str, str], terms: Sequence[str], images: Sequence[str]) -> str:
    """Return a report in the form of the original."""
    texts = "".join(
        f'<AbstractText Label="{name}">{escape(sections[name])}</AbstractText>'
        if sections.get(name)
        else f'<AbstractText Label="{name}"/>'
        for name in ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")
    )
    mesh = "".join(f"<major>{escape(term)}</major>" for term in terms)
    pictures = "".join(
        f'<parentImage id="{name}"><figureId>F{place}</figureId><caption>Xray Chest PA and Lateral</caption>'
        f'<panel type="single"><url>/hadoop/storage/radiology/extract/{name}.jpg</url></panel></parentImage>'
        for place, name in enumerate(images, start=1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{number}"/><pmcId id="{number}"/>'
        f"<licenseType>open-access</licenseType><licenseURL>{LICENCE}</licenseURL><MedlineCitation><Article><Abstract>{texts}"
        f"</Abstract></Article></MedlineCitation><MeSH>{mesh}<automatic>lung</automatic></MeSH>{pictures}</eCitation>\n"
    )


def _names(number: int) -> list[str]:
    """Return the ids of a frontal and a lateral image."""
    if number == 1:
        return ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]
    block = "-0001" if number % 5 == 0 else ""
    return [f"CXR{number}_IM-{number:04d}-{kind}{block}" for kind in ("1001", "2001")]


def _sections(study: MiniatureStudy) -> dict[str, str]:
    sections = {"INDICATION": "XXXX-year-old with XXXX, XXXX.", "IMPRESSION": f"1. {study.impression}"}
    if study.number % 4 != 1:
        sections["FINDINGS"] = f"{study.findings} There are no XXXX of an old fracture. ."
    if study.number % 3 == 0:
        sections["COMPARISON"] = "None."
    return sections


def _terms(study: MiniatureStudy) -> list[str]:
    terms = [f"{name.capitalize()}/mild" for name, state in study.labels.items() if state] or ["normal"]
    return [*terms, "Technical Quality of Image Unsatisfactory "] if study.number % 6 == 4 else terms


def _write_dicom(path: Path, image: np.ndarray, study: MiniatureStudy) -> None:
    stored = image.astype(np.uint16) * 128
    tags = {"PatientID": str(study.number + 1), "ViewPosition": "PA", **PRIVATE}
    if study.number % 2:
        inverse = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
        write_dicom(path, 32767 - stored, bits=15, **inverse, **tags)
        return
    write_dicom(path, stored // 8, bits=12, syntax=uid.JPEGLosslessSV1, WindowCenter=2048, WindowWidth=4096, **tags)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))
