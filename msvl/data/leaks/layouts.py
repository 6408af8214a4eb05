"""What the names of images in known data sets tell: image, patient and study, the same however a list writes the path.

Layouts: dataset-layouts of NIH ChestX-ray14, CheXpert, MIMIC-CXR, ReXGradient-160K and Open-i.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

IMAGE_ENDING = re.compile(r"(\.(png|jpe?g|dcm|dicom|tiff?|bmp|webp|npy|gz))+$", re.IGNORECASE)
_NIH = re.compile(r"(?P<image>(?P<patient>\d{8})_\d{3})")
_CHEXPERT = re.compile(r"(?:.*/)?(?P<image>(?P<study>(?P<patient>patient\d{5})/study\d+)/view\d+_(?:frontal|lateral))")
_MIMIC = re.compile(r"(?:.*/)?p(?P<patient>1\d{7})/s(?P<study>5\d{7})(?:/(?P<image>[0-9a-f]{8}(?:-[0-9a-f]{8}){4}))?")
_MIMIC_IMAGE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")
_REXGRADIENT = re.compile(r"(?:.*/)?(?P<patient>GRDN\w{12})/(?P<study>\w+)/studies/.*/(?P<image>[^/]+)")
_OPENI = re.compile(r"(?:CXR)?(?P<patient>\d{1,4})_(?:(?P=patient)_)?IM-(?P<image>\d{4}-.+)")

_PATIENTS = (
    (re.compile(r"p?(1\d{7})"), "mimic"),
    (re.compile(r"(0\d{7})"), "nih"),
    (re.compile(r"(patient\d{5})"), "chexpert"),
)
"""How the data sets write their patients in columns."""


@dataclass(frozen=True)
class ImageName:
    """What a name tells; every value begins with the data set, empty where the name does not tell it."""

    image: str
    patient: str = ""
    study: str = ""


def read_name(path: str) -> ImageName | None:
    """Return what the name of an image tells; None when no known data set writes names like that."""
    whole = IMAGE_ENDING.sub("", path.replace("\\", "/").removesuffix(".txt"))
    last = whole.rpartition("/")[2]
    if found := _NIH.fullmatch(last):
        return ImageName(f"nih/{found['image']}", f"nih/{found['patient']}")
    if found := _CHEXPERT.fullmatch(whole):
        return ImageName(*(f"chexpert/{found[name]}" for name in ("image", "patient", "study")))
    if found := _MIMIC.fullmatch(whole):
        image = found["image"] or f"s{found['study']}"
        return ImageName(f"mimic/{image}", f"mimic/{found['patient']}", f"mimic/{found['study']}")
    if _MIMIC_IMAGE.fullmatch(last):
        return ImageName(f"mimic/{last}")
    if found := _REXGRADIENT.fullmatch(whole):
        return ImageName(*(f"rexgradient/{found[name]}" for name in ("image", "patient", "study")))
    if found := _OPENI.fullmatch(last):
        report = f"openi/{found['patient']}"  # one report is one patient there: no other id is published
        return ImageName(f"openi/{found['patient']}_{found['image']}", report, report)
    return None


def base_name(path: str) -> str:
    """Return the name of an image without its folders and ending."""
    return IMAGE_ENDING.sub("", path.replace("\\", "/").rpartition("/")[2])


def read_patient(value: str) -> str:
    """Return a patient of a column in the form that `read_name` gives, where a known data set writes it like that."""
    value = re.sub(r"\.0$", "", value.strip())  # an integer that went through a table of floats
    for pattern, name in _PATIENTS:
        if found := pattern.fullmatch(value):
            return f"{name}/{found[1]}"
    return value
