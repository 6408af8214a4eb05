"""The header of a DICOM file: the few elements that decide about pixels, and where the pixels lie.

Plain files (explicit or implicit VR, little endian, with preamble, without lookup tables) are walked through here in a tenth of a
millisecond; pydicom, which takes two, reads every other one, and any in which something is odd.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom
from pydicom import Dataset, uid
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException
from pydicom.uid import UID

FACTS = ("ViewPosition", "SeriesDescription", "PatientSex", "PatientAge")
NUMBERS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation")
RESCALE = ("RescaleSlope", "RescaleIntercept")
TABLES = ("ModalityLUTSequence", "VOILUTSequence")
LUTS = (*RESCALE, *TABLES, "WindowCenter", "WindowWidth", "VOILUTFunction")
PIXELS = ("PixelData", "NumberOfFrames", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
TAGS = (*FACTS, *NUMBERS, "PhotometricInterpretation", *LUTS, *PIXELS)
"""All that is read."""
UNREADABLE = (
    BytesLengthException,
    EOFError,
    IndexError,
    OverflowError,
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

_NAMES = {tag_for_keyword(name): name for name in TAGS}
_PIXEL_DATA, _PATIENT_ID = 0x7FE00010, 0x00100020
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations whose length has four bytes."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_EXPLICIT, _IMPLICIT = struct.Struct("<HH2sH"), struct.Struct("<HHI")
_LENGTH = struct.Struct("<I")
_WALKED = frozenset(
    name
    for name in uid.AllTransferSyntaxes
    if name not in (uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
)
DEEPEST = 16
"""Sequences within each other that are walked through."""


class _OddError(Exception):
    """Something is not as plain files have it."""


@dataclass(frozen=True)
class DicomHeader:
    """What is read of a file."""

    values: Mapping[str, Any]
    """Of TAGS without LUTS and PixelData, those that are there and not blank: whole numbers and text."""
    luts: Dataset | None
    """Holds LUTS, as pydicom's functions want them; None where the file has none that does anything."""
    syntax: UID | None
    """None where the file does not say it."""
    little_endian: bool
    pixels: bytes | memoryview | None
    """Value of PixelData; None where there is none."""
    encapsulated: bool
    """Whether the pixels are compressed."""
    joined: bool
    """Whether `pixels` is the compressed frame already, out of its fragments."""

    def number(self, name: str) -> int:
        """Return a value that must be there."""
        return int(self.values[name])

    def frame(self) -> bytes:
        """Return the compressed frame, its fragments joined. Raises ValueError when it is cut short."""
        assert self.pixels is not None, "checked before"
        if self.joined:
            return bytes(self.pixels)
        try:
            return next(generate_frames(bytes(self.pixels), number_of_frames=1))
        except (StopIteration, ValueError, EOFError, struct.error) as error:
            raise ValueError("its pixels are cut short: copy it again") from error


def read_header(data: bytes) -> DicomHeader:
    """Read the header of a file's content. Raises one of UNREADABLE for bytes that are no DICOM."""
    try:
        return _plain_header(data)
    except (_OddError, struct.error, IndexError, ValueError, OverflowError):
        return _any_header(data)


def patient_id(beginning: bytes) -> str | None:
    """Return the PatientID that stands in the first bytes of a file; None where it takes pydicom to tell."""
    try:
        start, syntax = _file_header(beginning)
        for tag, begin, length in _elements(beginning, start, implicit=syntax == uid.ImplicitVRLittleEndian):
            if tag == _PATIENT_ID:
                if begin + length > len(beginning):
                    return None
                return _text(beginning[begin : begin + length])
            if tag > _PATIENT_ID:
                return ""
    except (_OddError, struct.error, IndexError, ValueError):
        pass
    return None


@contextmanager
def silence() -> Iterator[None]:
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


def _any_header(data: bytes) -> DicomHeader:
    with silence():
        dataset = pydicom.dcmread(BytesIO(data), force=True, specific_tags=list(TAGS))
        for element in list(dataset):
            if element.is_empty:
                del dataset[element.tag]
        values = {name: dataset[name].value for name in TAGS if name in dataset and name not in (*LUTS, "PixelData")}
        found = next((element for element in dataset if element.tag == _PIXEL_DATA), None)
        return DicomHeader(
            values={name: int(value) if name in NUMBERS else str(value).strip() for name, value in values.items()},
            luts=dataset if any(name in dataset for name in LUTS) else None,
            syntax=UID(dataset.file_meta.TransferSyntaxUID) if "TransferSyntaxUID" in dataset.file_meta else None,
            little_endian=bool(dataset.original_encoding[1]),
            pixels=found.value if found is not None else None,
            encapsulated=bool(found is not None and found.is_undefined_length),
            joined=False,
        )


def _plain_header(data: bytes) -> DicomHeader:
    start, syntax = _file_header(data)
    values: dict[str, Any] = {}
    luts: dict[str, str] = {}
    for tag, begin, length in _elements(data, start, implicit=syntax == uid.ImplicitVRLittleEndian):
        name = _NAMES.get(tag)
        if tag == _PIXEL_DATA:
            compressed = length == _UNDEFINED
            pixels = _joined(data, begin) if compressed else memoryview(data)[begin : begin + length]
            if compressed != syntax.is_compressed or not len(pixels) or (not compressed and len(pixels) < length):
                raise _OddError
            return DicomHeader(values, _as_dataset(luts, values), syntax, True, pixels, compressed, joined=compressed)
        if name is None or not length:
            continue
        if name in TABLES or length == _UNDEFINED:
            raise _OddError
        raw = data[begin : begin + length]
        if name in NUMBERS:
            (values[name],) = struct.unpack("<H", raw)
        elif text := _text(raw):
            (luts if name in LUTS else values)[name] = text
    raise _OddError


def _as_dataset(luts: Mapping[str, str], values: Mapping[str, Any]) -> Dataset | None:
    """Return the elements that change grey values; None without."""
    kept = dict(luts)
    if [float(kept.get(name, fallback)) for name, fallback in zip(RESCALE, (1, 0), strict=True)] == [1, 0]:
        kept = {name: value for name, value in kept.items() if name not in RESCALE}
    if not kept:
        return None
    dataset = Dataset()
    with silence():
        for name, text in kept.items():
            setattr(dataset, name, text.split("\\") if "\\" in text else text)
        for name in ("BitsStored", "PixelRepresentation", "PhotometricInterpretation"):
            if name in values:
                setattr(dataset, name, values[name])
    return dataset


def _file_header(data: bytes) -> tuple[int, UID]:
    """Return where the data set begins and its transfer syntax."""
    if data[128:132] != b"DICM":
        raise _OddError
    position, syntax = 132, ""
    while True:
        group, element, _, length = _EXPLICIT.unpack_from(data, position)
        if group != 2:
            break
        begin, length = _value(data, position, implicit=False)
        if element == 0x10:
            syntax = data[begin : begin + length].decode("ascii").rstrip("\0 ")
        position = begin + length
    if syntax not in _WALKED:
        raise _OddError
    return position, UID(syntax)


def _elements(data: bytes, position: int, *, implicit: bool) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, begin, length) of the elements, sequences as a whole; after PixelData nothing is looked at."""
    end, before = len(data), 0
    while position < end:
        group, element = struct.unpack_from("<HH", data, position)
        tag = group << 16 | element
        if tag <= before:  # elements stand in order
            raise _OddError
        before = tag
        begin, length = _value(data, position, implicit=implicit)
        yield tag, begin, length
        position = _after_sequence(data, begin, implicit=implicit) if length == _UNDEFINED else begin + length


def _value(data: bytes, position: int, *, implicit: bool) -> tuple[int, int]:
    """Return where the value of an element begins, and its length."""
    if implicit:
        return position + 8, _LENGTH.unpack_from(data, position + 4)[0]
    _, _, kind, length = _EXPLICIT.unpack_from(data, position)
    if not (kind.isalpha() and kind.isupper()):
        raise _OddError
    if kind in _LONG:
        return position + 12, _LENGTH.unpack_from(data, position + 8)[0]
    return position + 8, length


def _after_sequence(data: bytes, position: int, *, implicit: bool, depth: int = 0) -> int:
    """Return where a sequence of undefined length ends, given where its first item begins."""
    if depth > DEEPEST:
        raise _OddError
    while True:
        group, element, length = _IMPLICIT.unpack_from(data, position)
        tag = group << 16 | element
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise _OddError
        if length != _UNDEFINED:
            position += length
            continue
        while True:
            group, element, _ = _IMPLICIT.unpack_from(data, position)
            if group << 16 | element == _ITEM_END:
                position += 8
                break
            begin, length = _value(data, position, implicit=implicit)
            position = begin + length
            if length == _UNDEFINED:
                position = _after_sequence(data, begin, implicit=implicit, depth=depth + 1)


def _joined(data: bytes, position: int) -> bytes:
    """Return the fragments of an only frame, joined, given where the table of offsets begins."""
    fragments: list[bytes] = []
    while True:
        group, element, length = _IMPLICIT.unpack_from(data, position)
        tag = group << 16 | element
        position += 8
        if tag == _SEQUENCE_END:
            return b"".join(fragments[1:])
        if tag != _ITEM or position + length > len(data):
            raise _OddError
        fragments.append(data[position : position + length])
        position += length


def _text(raw: bytes) -> str:
    """Return text without its padding; other than ASCII has a character set that pydicom knows of."""
    return raw.decode("ascii").strip("\0 ").strip()
