"""Headers: the quick way tells what pydicom tells, of every file that it takes, and leaves the others to pydicom."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, uid

from msvl.data import dicom_header
from msvl.data.dicom_header import DicomHeader, patient_id, read_header
from msvl.data.dicom_values import grey_values, windows
from msvl.data.images import to_eight_bit
from msvl.data.phantom.miniatures.dicom_files import ENCODERS, encode_dicom

IMAGE = np.clip(np.arange(32 * 48).reshape(32, 48) * 3, 0, 4095).astype(np.uint16)
QUICK = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.RLELossless, *ENCODERS)
FACTS = {"PatientSex": "F", "PatientAge": "045Y", "ViewPosition": "PA", "SeriesDescription": "view: PA"}


def nested(depth: int = 3) -> Dataset:
    """Return a sequence's item with sequences of undefined length in it, as MIMIC-CXR has them."""
    item = Dataset()
    item.CodeMeaning = "postero-anterior"
    if depth:
        item.ConceptCodeSequence = [nested(depth - 1), Dataset()]
        item["ConceptCodeSequence"].is_undefined_length = True
    item.is_undefined_length_sequence_item = depth % 2 == 0
    return item


def encoded(syntax: str = uid.ExplicitVRLittleEndian, image: np.ndarray | None = None, **tags: Any) -> bytes:
    picture = IMAGE if image is None else image
    if syntax == uid.JPEGBaseline8Bit:
        return encode_dicom((picture // 16).astype(np.uint8), bits=8, syntax=syntax, **tags)
    return encode_dicom(picture, bits=12, syntax=syntax, **tags)


def both(data: bytes) -> tuple[DicomHeader, DicomHeader]:
    return dicom_header._plain_header(data), dicom_header._any_header(data)


def check_equal(data: bytes) -> DicomHeader:
    quick, slow = both(data)
    assert {name: str(value) for name, value in quick.values.items()} == {
        n: str(v) for n, v in slow.values.items() if str(v)
    }
    assert (quick.syntax, quick.little_endian, quick.encapsulated) == (slow.syntax, True, slow.encapsulated)
    if quick.encapsulated:
        assert quick.frame() == slow.frame()
    else:
        assert bytes(quick.pixels) == bytes(slow.pixels)  # type: ignore[arg-type]
    assert windows(quick) == windows(slow)
    return quick


@pytest.mark.parametrize("syntax", QUICK, ids=lambda syntax: uid.UID(syntax).keyword)
def test_the_quick_way_tells_what_pydicom_tells(syntax: str) -> None:
    check_equal(
        encoded(syntax, **FACTS, PatientName="A^B", PhotometricInterpretation="MONOCHROME1", PixelSpacing=[0.1, 0.1])
    )


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.JPEGLSLossless])
def test_sequences_of_any_length_are_walked_through(syntax: str) -> None:
    sequence = {
        "ViewCodeSequence": [nested(), nested(1)],
        "ProcedureCodeSequence": [],
        "RequestAttributesSequence": [nested(0)],
    }
    check_equal(encoded(syntax, **sequence, **FACTS))


@pytest.mark.parametrize(
    "luts",
    [
        {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"},
        {"RescaleSlope": "1.0", "RescaleIntercept": "-1024"},
        {"RescaleSlope": "0.5", "RescaleIntercept": 0, "WindowCenter": 500, "WindowWidth": 800},
        {"WindowCenter": [500, 900], "WindowWidth": [800, 700], "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 500, "WindowWidth": ""},
        {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": "500.5", "WindowWidth": 10},
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_windows_and_slopes_give_the_same_grey_values(luts: dict[str, Any], photometric: str, signed: bool) -> None:
    image = IMAGE.astype(np.int16) - 2048 if signed else IMAGE
    quick, slow = both(encoded(image=image, PhotometricInterpretation=photometric, **luts))
    patterns = image.view(np.uint16)
    for depth in (8, 16):
        ours, theirs = (grey_values(patterns, header, 1, compressed=False, depth=depth) for header in (quick, slow))
        assert ours.dtype == theirs.dtype == (np.uint8 if depth == 8 else np.uint16)
        assert np.array_equal(ours, theirs)
    deep = grey_values(patterns, quick, 1, compressed=False, depth=16)
    assert (
        np.abs(grey_values(patterns, quick, 1, compressed=False, depth=8).astype(int) - to_eight_bit(deep)).max() <= 1
    )


@pytest.mark.parametrize(
    "data",
    [
        encoded(uid.ExplicitVRBigEndian),
        encoded(uid.DeflatedExplicitVRLittleEndian),
        encoded(preamble=False),
        encoded(SeriesDescription="Münster", SpecificCharacterSet="ISO_IR 100"),
        encoded(Rows=None),
        encoded(BitsStored=None, PatientSex=None),
    ],
    ids=["big endian", "deflated", "no preamble", "not ASCII", "no rows", "no bits"],
)
def test_other_files_are_read_by_pydicom_or_told_alike(data: bytes) -> None:
    found, slow = read_header(data), dicom_header._any_header(data)
    assert {name: str(value) for name, value in found.values.items()} == {n: str(v) for n, v in slow.values.items()}
    assert bytes(found.pixels) == bytes(slow.pixels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.JPEGLSLossless, uid.RLELossless]
)
def test_a_file_cut_anywhere_is_never_taken_by_the_quick_way(syntax: str) -> None:
    data = encoded(syntax, ViewCodeSequence=[nested()], **FACTS)
    padding = 8 if syntax in ENCODERS or syntax == uid.RLELossless else 0  # the delimiter at the end
    for length in [*range(0, len(data) - 3000, 7), *range(len(data) - 300, len(data) - padding - 1)]:
        with pytest.raises(Exception):  # noqa: B017, PT011 - any: pydicom is asked then
            dicom_header._plain_header(data[:length])


def test_bytes_at_random_are_read_or_refused() -> None:
    rng = np.random.default_rng(0)
    data = bytearray(encoded(uid.JPEGLSLossless, ViewCodeSequence=[nested()], **FACTS))
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(132, min(len(data), 1500), 3):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(dicom_header.UNREADABLE):
            read_header(bytes(damaged))


def test_the_patient_is_found_in_the_first_bytes() -> None:
    data = encoded(PatientID="p 7", PatientName="A^B", **FACTS)
    assert patient_id(data[:8192]) == "p 7"
    assert patient_id(encoded(**FACTS)) == ""
    assert patient_id(data[:300]) is None, "the element is cut: pydicom reads the file"
    assert patient_id(encoded(preamble=False, PatientID="p 7")) is None
