"""DICOM radiographs: one grey image of a file, bright = dense, and the few facts of its header that sources use.

Of the header only the tags in `TAGS` are read, so that names, dates and numbers of patients never enter the program.
"""

from __future__ import annotations

import gzip
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset, uid
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from msvl.config.errors import DataError
from msvl.data.dicom_codecs import SYNTAXES, decode_frame
from msvl.data.dicom_values import grey_values, is_linear

FACTS = ("ViewPosition", "SeriesDescription", "PatientSex", "PatientAge")
NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
LUTS = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth",
        "VOILUTFunction")  # fmt: skip
PIXELS = ("PixelData", "NumberOfFrames", "SamplesPerPixel", "PixelRepresentation", "ExtendedOffsetTable",
          "ExtendedOffsetTableLengths")  # fmt: skip
TAGS = (*FACTS, *NEEDED, *LUTS, *PIXELS)
NATIVE = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian,
)  # fmt: skip
"""Transfer syntaxes whose pixels are not compressed."""
GREY = ("MONOCHROME1", "MONOCHROME2")
UNREADABLE = (
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are no DICOM."""


@dataclass(frozen=True)
class DicomImage:
    """What is read of a file."""

    pixels: np.ndarray
    """[H, W] uint8 or uint16."""
    full_size: tuple[int, int]
    """(height, width) in the file, larger than `pixels` where they were decoded at a reduced one."""
    facts: dict[str, str]
    """Those of FACTS that the header fills, as they stand there."""


def read_dicom(path: Path, where: str, *, window: int = 1, at_least: int = 0) -> DicomImage:
    """Read `.dcm`, `.dicom` or `.dcm.gz`, with or without the preamble of 128 bytes.

    Args:
        path: The file.
        where: Its place in the source, for messages.
        window: Which of the file's windows or VOI LUTs to apply, from 1; 0 for none (`grey_values`).
        at_least: Baseline JPEGs without LUT or window may come at 1/2, 1/4 or 1/8 where both sides then still have so many pixels.

    Raises:
        DataError: The file is missing, no DICOM image, of several frames, in colour, cut short or damaged. The message holds
            nothing of the header but sizes.
    """
    dataset = _dataset(path, where)
    try:
        _check(dataset)
        syntax = _syntax(dataset)
        patterns = _patterns(dataset, syntax, at_least if is_linear(dataset, window) else 0)
        with _silence():
            pixels = grey_values(patterns, dataset, window, compressed=syntax in SYNTAXES)
    except ValueError as error:
        raise DataError(f"{where}: {path.name}: {error}") from error
    facts = {name: str(dataset[name].value).strip() for name in FACTS if name in dataset}
    return DicomImage(pixels, (dataset.Rows, dataset.Columns), {name: text for name, text in facts.items() if text})


def read_patient_id(path: Path) -> str:
    """Return the PatientID of a file, to split by patient; empty when it has none or cannot be read. Show it to nobody."""
    try:
        with _silence(), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            header = pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=["PatientID"])
            return str(header.get("PatientID") or "").strip()
    except UNREADABLE:
        return ""


def _dataset(path: Path, where: str) -> Dataset:
    if not path.is_file():
        raise DataError(f"{where}: there is no image file {path.name} in {path.parent}")
    try:
        with _silence(), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            dataset = pydicom.dcmread(stream, force=True, specific_tags=list(TAGS))
            for element in list(dataset):
                if element.is_empty:
                    del dataset[element.tag]
    except UNREADABLE as error:
        raise DataError(f"{where}: {path.name} is no whole DICOM file: copy it again") from error
    return dataset


@contextmanager
def _silence() -> Iterator[None]:
    """Keep pydicom from warning about values: it quotes them."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _check(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        raise ValueError("this is no DICOM image (it has no pixels)")
    missing = [name for name in NEEDED if name not in dataset]
    if missing:
        raise ValueError(f"its header has no {', '.join(missing)}")
    if int(dataset.get("NumberOfFrames", 1)) > 1:
        raise ValueError(f"it has {dataset.NumberOfFrames} frames, and a radiograph has one: leave it out")
    if dataset.PhotometricInterpretation not in GREY or dataset.get("SamplesPerPixel", 1) != 1:
        raise ValueError("it is in colour: write it as a grey PNG, or leave it out")
    if dataset.BitsAllocated not in (8, 16) or not 1 <= dataset.BitsStored <= dataset.BitsAllocated:
        raise ValueError(
            f"it stores {dataset.BitsStored} of {dataset.BitsAllocated} bits; 1 to 8 of 8 and 1 to 16 of 16 can be read"
        )
    if "PixelRepresentation" not in dataset:
        dataset.PixelRepresentation = 0


def _syntax(dataset: Dataset) -> UID:
    """Return the transfer syntax; files that have lost their header are taken for uncompressed."""
    if "TransferSyntaxUID" in dataset.file_meta:
        return UID(dataset.file_meta.TransferSyntaxUID)
    if dataset["PixelData"].is_undefined_length:
        raise ValueError(
            "its pixels are compressed and it does not say how, for its file header is lost: export it again"
        )
    return uid.ExplicitVRLittleEndian


def _patterns(dataset: Dataset, syntax: UID, at_least: int) -> np.ndarray:
    """Return [H, W] uint8 or uint16, the bits as they are stored."""
    shape, depth = (dataset.Rows, dataset.Columns), dataset.BitsAllocated
    if syntax in SYNTAXES:
        return decode_frame(_frame(dataset), syntax, shape, depth, at_least)
    if syntax not in NATIVE:
        raise ValueError(
            f"its pixels are in {syntax.name}, which cannot be read: export it as JPEG 2000 or uncompressed"
        )
    size = shape[0] * shape[1] * depth // 8
    if len(dataset.PixelData) < size:
        raise ValueError("its pixels are cut short: copy it again")
    _, little_endian = dataset.original_encoding
    dtype = f"{'<' if little_endian else '>'}u{depth // 8}"
    pixels = np.frombuffer(dataset.PixelData, dtype, count=shape[0] * shape[1])
    return pixels.reshape(shape).astype(f"u{depth // 8}", copy=False)


def _frame(dataset: Dataset) -> bytes:
    try:
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    except (StopIteration, ValueError, EOFError, struct.error) as error:
        raise ValueError("its pixels are cut short: copy it again") from error
