"""DICOM radiographs: one grey image of a file, bright = dense, and the few facts of its header that sources use.

Of the header only the tags of `dicom_header.TAGS` are read, so that names, dates and numbers of patients never enter the program.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.uid import UID

from msvl.config.errors import DataError
from msvl.data.dicom_codecs import SYNTAXES, decode_frame
from msvl.data.dicom_header import FACTS, UNREADABLE, DicomHeader, patient_id, read_header, silence
from msvl.data.dicom_values import grey_values, is_linear

NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
NATIVE = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian,
)  # fmt: skip
"""Transfer syntaxes whose pixels are not compressed."""
GREY = ("MONOCHROME1", "MONOCHROME2")
BEGINNING = 8192
"""Bytes that the patient's elements stand in, as a rule."""


@dataclass(frozen=True)
class DicomImage:
    """What is read of a file."""

    pixels: np.ndarray
    """[H, W] uint8 or uint16."""
    full_size: tuple[int, int]
    """(height, width) in the file, larger than `pixels` where they were decoded at a reduced one."""
    facts: dict[str, str]
    """Those of FACTS that the header fills, as they stand there."""


def read_dicom(path: Path, where: str, *, window: int = 1, at_least: int = 0, depth: int = 16) -> DicomImage:
    """Read `.dcm`, `.dicom` or `.dcm.gz`, with or without the preamble of 128 bytes.

    Args:
        path: The file.
        where: Its place in the source, for messages.
        window: Which of the file's windows or VOI LUTs to apply, from 1; 0 for none (`grey_values`).
        at_least: Baseline JPEGs without LUT or window may come at 1/2, 1/4 or 1/8 where both sides then still have so many pixels.
        depth: 8 maps deeper values to 8 bits by their range, as `to_eight_bit` does; 16 keeps them.

    Raises:
        DataError: The file is missing, no DICOM image, of several frames, in colour, cut short or damaged. The message holds
            nothing of the header but sizes.
    """
    header = _header(path, where)
    try:
        _check(header)
        syntax = _syntax(header)
        patterns = _patterns(header, syntax, at_least if is_linear(header, window) else 0)
        pixels = grey_values(patterns, header, window, compressed=syntax in SYNTAXES, depth=depth)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    facts = {name: header.values[name] for name in FACTS if header.values.get(name)}
    return DicomImage(pixels, (header.number("Rows"), header.number("Columns")), facts)


def read_patient_id(path: Path) -> str:
    """Return the PatientID of a file, to split by patient; empty when it has none or cannot be read. Show it to nobody."""
    try:
        with silence(), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            found = patient_id(stream.read(BEGINNING))
            if found is not None:
                return found
            stream.seek(0)
            header = pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=["PatientID"])
            return str(header.get("PatientID") or "").strip()
    except UNREADABLE:
        return ""


def _header(path: Path, where: str) -> DicomHeader:
    if not path.is_file():
        raise DataError(f"{where}: there is no such image file: is the folder the right one, and all of it there?")
    try:
        data = path.read_bytes()
        return read_header(gzip.decompress(data) if path.suffix == ".gz" else data)
    except UNREADABLE as error:
        raise DataError(f"{where}: its file is no whole DICOM file: copy it again") from error


def _check(header: DicomHeader) -> None:
    if header.pixels is None:
        raise ValueError("this is no DICOM image (it has no pixels)")
    values = header.values
    missing = [name for name in NEEDED if name not in values]
    if missing:
        raise ValueError(f"its header has no {', '.join(missing)}")
    if int(values.get("NumberOfFrames", 1)) > 1:
        raise ValueError(f"it has {values['NumberOfFrames']} frames, and a radiograph has one: leave it out")
    if values["PhotometricInterpretation"] not in GREY or values.get("SamplesPerPixel", 1) != 1:
        raise ValueError("it is in colour: write it as a grey PNG, or leave it out")
    allocated, stored = values["BitsAllocated"], values["BitsStored"]
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise ValueError(f"it stores {stored} of {allocated} bits; 1 to 8 of 8 and 1 to 16 of 16 can be read")


def _syntax(header: DicomHeader) -> UID:
    """Return the transfer syntax; files that have lost their header are taken for uncompressed."""
    if header.syntax is not None:
        return header.syntax
    if header.encapsulated:
        raise ValueError(
            "its pixels are compressed and it does not say how, for its file header is lost: export it again"
        )
    return uid.ExplicitVRLittleEndian


def _patterns(header: DicomHeader, syntax: UID, at_least: int) -> np.ndarray:
    """Return [H, W] uint8 or uint16, the bits as they are stored."""
    shape, depth = (header.number("Rows"), header.number("Columns")), header.number("BitsAllocated")
    if syntax in SYNTAXES:
        return decode_frame(header.frame(), syntax, shape, depth, at_least)
    if syntax not in NATIVE:
        raise ValueError(
            f"its pixels are in {syntax.name}, which cannot be read: export it as JPEG 2000 or uncompressed"
        )
    size = shape[0] * shape[1] * depth // 8
    assert header.pixels is not None, "checked before"
    if len(header.pixels) < size:
        raise ValueError("its pixels are cut short: copy it again")
    dtype = f"{'<' if header.little_endian else '>'}u{depth // 8}"
    pixels = np.frombuffer(header.pixels, dtype, count=shape[0] * shape[1])
    return pixels.reshape(shape).astype(f"u{depth // 8}", copy=False)
