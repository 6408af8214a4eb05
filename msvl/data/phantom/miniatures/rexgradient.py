"""ReXGradient-160K: the hub's folder with the images unpacked, and the ten pieces they come in."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from msvl.data.phantom.miniatures.material import MiniatureStudy, hex_id, write_image, write_text

ROOT = "ReXGradient-160K"
FILES = {"train": "train", "val": "valid", "test": "test"}
VIEWS = ("PA", "AP", "POSTERO_ANTERIOR")
PIECES = 10
BLOCK = 1 << 16


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write metadata, the pieces of the archive, and the images that unpacking them gives.

    With the quirks of the original: paths relative to the metadata, parallel lists, a view that is missing, empty, None and
    NaN texts, ages in years and days.
    """
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for split, name in FILES.items():
            entries = {}
            for study in (study for study in studies if study.split == split):
                entry, images = _study(study)
                entries[accession(study)] = entry
                for path, image in images.items():
                    _, data = cv2.imencode(".png", image)
                    member = tarfile.TarInfo(path.removeprefix("../"))
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data.tobytes()))
                    write_image(folder / ROOT / member.name, image)
            place = folder / ROOT / "download" / "metadata" / f"{name}_metadata_view_position.json"
            write_text(place, json.dumps(entries, indent=1))
    data = stored_zstd(tar.getvalue())
    size = -(-len(data) // PIECES)
    for number in range(PIECES):
        piece = data[number * size : (number + 1) * size]
        (folder / ROOT / "download" / f"deid_png.part{number:02d}").write_bytes(piece)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["rexgradient", "--images", str(folder / ROOT)]


def accession(study: MiniatureStudy) -> str:
    """Return 16 letters and digits."""
    return f"GRDN{hex_id('accession', study.number, digits=12).upper()}"


def _study(study: MiniatureStudy) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entry of the metadata, and path -> image."""
    patient = f"GRDN{hex_id('patient', study.patient, digits=12).upper()}"
    base = f"../deid_png/{patient}/{accession(study)}/studies/{_uid(study, 'study')}/series/{_uid(study, 'series')}/instances"
    images = {f"{base}/{_uid(study, 'frontal')}.png": study.frontal}
    views: list[str | None] = [VIEWS[study.number % 3]]
    if study.number % 4 == 0:
        images[f"{base}/{_uid(study, 'lateral')}.png"] = study.lateral
        views.append("LATERAL")
    if study.number % 7 == 3:
        images[f"{base}/{_uid(study, 'third')}.png"] = study.lateral
        views.append(None if study.number % 2 else "N/A")
    entry = {
        "ImagePath": list(images),
        "ImageViewPosition": views,
        "ImageShape": [list(image.shape) for image in images.values()],
        "ImageModality": ["DX"] * len(images),
        "ImageBodyPart": ["CHEST"] * len(images),
        "Indication": ("Cough.", "", "None", float("nan"))[study.number % 4],
        "Comparison": ("None", "Prior radiograph.", "", float("nan"))[study.number % 4],
        "Findings": study.findings,
        "Impression": study.impression,
        "PatientSex": study.sex,
        "PatientAge": "002D" if study.number % 9 == 4 else f"{study.age:03d}Y",
        "StudyDate": f"{20100101 + study.number}",
    }
    return entry, images


def _uid(study: MiniatureStudy, kind: str) -> str:
    return f"1.2.826.0.1.{int(hex_id(kind, study.number, digits=12), 16)}"


def stored_zstd(data: bytes) -> bytes:
    """Return a zstd frame that stores the data as it is (RFC 8878, raw blocks): Python 3.11 has no zstd to compress with."""
    header = b"\x28\xb5\x2f\xfd" + b"\xa0" + len(data).to_bytes(4, "little")
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    framed = [(int(block is blocks[-1]) | len(block) << 3).to_bytes(3, "little") + block for block in blocks]
    return header + b"".join(framed)
