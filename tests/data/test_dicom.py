"""DICOM: every transfer syntax, depth and sign against the pixels that were written; LUTs against plain formulas; faults."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from msvl.config.errors import DataError
from msvl.data.dicom import DicomImage, read_dicom
from msvl.data.phantom.miniatures.dicom_files import encode_dicom, write_dicom

LOSSLESS = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian,
    uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless,
)  # fmt: skip


def radiograph(bits: int, *, signed: bool = False, shape: tuple[int, int] = (61, 48)) -> np.ndarray:
    """Return a smooth picture with noise that uses the whole range, its least and greatest value included."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    smooth = 0.5 + 0.3 * np.sin(x / 11) * np.cos(y / 9)
    values = smooth * (2**bits - 1) + np.random.default_rng(bits).normal(0, 2**bits / 200, shape)
    image = np.clip(values, 0, 2**bits - 1).astype(np.int64)
    image[0, 0], image[-1, -1] = 0, 2**bits - 1
    if signed:
        return (image - 2 ** (bits - 1)).astype(np.int16)
    return image.astype(np.uint8 if bits <= 8 else np.uint16)


def read(folder: Path, image: np.ndarray, name: str = "a.dcm", *, window: int = 1, **options: Any) -> DicomImage:
    write_dicom(folder / name, image, **options)
    return read_dicom(folder / name, "table.csv row 7", window=window)


@pytest.mark.evidence("DICOM of every transfer syntax gives the pixels that were written", how="cpu")
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_lossless_syntaxes_give_the_very_pixels(tmp_path: Path, syntax: uid.UID, bits: int) -> None:
    image = radiograph(bits)
    found = read(tmp_path, image, bits=bits, syntax=syntax).pixels
    assert found.dtype == image.dtype
    assert np.array_equal(found, image)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_signed_pixels_are_stretched_by_their_own_range(tmp_path: Path, syntax: uid.UID) -> None:
    image = radiograph(12, signed=True)
    found = read(tmp_path, image, bits=12, syntax=syntax).pixels
    assert np.array_equal(found, np.rint((image.astype(float) + 2048) * 65535 / 4095))


@pytest.mark.parametrize(
    ("syntax", "bits", "error"),
    [
        (uid.JPEGBaseline8Bit, 8, 8),
        (uid.JPEGExtended12Bit, 12, 24),
        (uid.JPEGLSNearLossless, 8, 2),
        (uid.JPEGLSNearLossless, 12, 2),
        (uid.JPEG2000, 12, 24),
        (uid.JPEG2000, 16, 400),
    ],
)
def test_lossy_syntaxes_come_close(tmp_path: Path, syntax: uid.UID, bits: int, error: int) -> None:
    image = radiograph(bits)
    found = read(tmp_path, image, bits=bits, syntax=syntax).pixels
    assert found.dtype == image.dtype
    assert 0 < np.abs(found.astype(int) - image.astype(int)).max() <= error


def test_a_frame_in_several_fragments_is_joined(tmp_path: Path) -> None:
    image = radiograph(12)
    dataset = pydicom.dcmread(_written(tmp_path, image, bits=12, syntax=uid.JPEGLSLossless))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame], fragments_per_frame=3)
    dataset.save_as(tmp_path / "b.dcm")
    assert np.array_equal(read_dicom(tmp_path / "b.dcm", "row 1").pixels, image)


def test_codec_that_knows_more_bits_than_the_header_is_believed(tmp_path: Path) -> None:
    image = radiograph(16)
    found = read(tmp_path, image, bits=16, syntax=uid.JPEG2000Lossless, BitsStored=12)
    assert np.array_equal(found.pixels, image)


def test_bits_above_the_stored_ones_are_left_out(tmp_path: Path) -> None:
    image = radiograph(12)
    with_overlay = image | np.uint16(0x8000) * (np.arange(image.size).reshape(image.shape) % 3 == 0)
    assert np.array_equal(read(tmp_path, with_overlay, bits=12).pixels, image)


@pytest.mark.parametrize("name", ["a.dcm", "a.dicom", "a.dcm.gz"])
def test_names_that_dicom_files_have(tmp_path: Path, name: str) -> None:
    image = radiograph(12)
    assert np.array_equal(read(tmp_path, image, name, bits=12).pixels, image)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_files_without_preamble_and_file_header(tmp_path: Path, syntax: uid.UID) -> None:
    image = radiograph(12)
    found = read(tmp_path, image, bits=12, syntax=syntax, preamble=False).pixels
    assert np.array_equal(found, image)


def test_missing_tags_that_are_not_needed(tmp_path: Path) -> None:
    gone = ("HighBit", "SOPInstanceUID", "SOPClassUID", "SamplesPerPixel", "PixelRepresentation")
    data = encode_dicom(radiograph(12), bits=12, preamble=False, **dict.fromkeys(gone))
    (tmp_path / "a.dcm").write_bytes(data)
    found = read_dicom(tmp_path / "a.dcm", "row 1")
    assert np.array_equal(found.pixels, radiograph(12))
    assert found.facts == {}


def test_blank_tags_count_as_missing(tmp_path: Path) -> None:
    blank = dict.fromkeys(("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "ViewPosition"), "")
    found = read(tmp_path, radiograph(12), bits=12, **blank)
    assert np.array_equal(found.pixels, radiograph(12))
    assert found.facts == {}


def test_the_facts_of_the_header(tmp_path: Path) -> None:
    facts = {"ViewPosition": "PA", "SeriesDescription": "view: PA", "PatientSex": "F", "PatientAge": "062Y"}
    assert read(tmp_path, radiograph(8), bits=8, PatientName="Secret", **facts).facts == facts


def test_monochrome1_is_turned_round_by_its_own_range(tmp_path: Path) -> None:
    image = radiograph(12)[1:-1]
    assert image.min() > 0 and image.max() < 4095
    found = read(tmp_path, image, bits=12, PhotometricInterpretation="MONOCHROME1").pixels
    assert np.array_equal(found, int(image.max()) + int(image.min()) - image.astype(int))
    inverse = read(tmp_path, image, bits=12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert np.array_equal(inverse.pixels, found)


def window_line(values: np.ndarray, centre: float, width: float, least: float, greatest: float) -> np.ndarray:
    """Return the LINEAR function of DICOM PS3.3 C.11.2.1.2.1, pixel by pixel."""
    shown = ((values - (centre - 0.5)) / (width - 1) + 0.5) * (greatest - least) + least
    shown[values <= centre - 0.5 - (width - 1) / 2] = least
    shown[values > centre - 0.5 + (width - 1) / 2] = greatest
    return shown


def stretched(values: np.ndarray) -> np.ndarray:
    return np.rint((values - values.min()) * 65535 / (values.max() - values.min()))


WINDOW = {"WindowCenter": [1800, 2600], "WindowWidth": [1500, 700]}


@pytest.mark.parametrize(("window", "centre", "width"), [(1, 1800, 1500), (2, 2600, 700)])
def test_windows_are_chosen_by_number(tmp_path: Path, window: int, centre: int, width: int) -> None:
    image = radiograph(12)
    found = read(tmp_path, image, bits=12, window=window, **WINDOW).pixels
    expected = stretched(window_line(image.astype(float), centre, width, 0, 4095))
    assert np.abs(found - expected).max() <= 1
    assert np.array_equal(read(tmp_path, image, bits=12, window=0, **WINDOW).pixels, image)


def test_a_window_is_applied_before_monochrome1_is_turned_round(tmp_path: Path) -> None:
    image = radiograph(12)
    tags = {"WindowCenter": 900, "WindowWidth": 1000, "PhotometricInterpretation": "MONOCHROME1"}
    found = read(tmp_path, image, bits=12, **tags).pixels
    shown = window_line(image.astype(float), 900, 1000, 0, 4095)
    assert np.abs(found - stretched(shown.max() + shown.min() - shown)).max() <= 1
    after = window_line(4095 - image.astype(float), 900, 1000, 0, 4095)
    assert np.abs(found - stretched(after)).max() > 10_000


def test_a_window_counts_in_rescaled_values(tmp_path: Path) -> None:
    image = radiograph(12)
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": -100, "WindowCenter": 800, "WindowWidth": 600}
    found = read(tmp_path, image, bits=12, **tags).pixels
    values = image * 0.5 - 100
    assert np.abs(found - stretched(window_line(values, 800, 600, -100, 4095 * 0.5 - 100))).max() <= 1
    unwindowed = read(tmp_path, image, bits=12, window=0, **tags).pixels
    assert np.abs(unwindowed - stretched(values)).max() <= 1


def test_a_slope_that_keeps_whole_numbers_keeps_them(tmp_path: Path) -> None:
    image = radiograph(12)
    found = read(tmp_path, image, bits=12, RescaleSlope=2, RescaleIntercept=5).pixels
    assert np.array_equal(found, image.astype(int) * 2 + 5)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_windows_equal_those_of_pydicom(tmp_path: Path, function: str, signed: bool) -> None:
    centre = -200 if signed else 1800
    tags = {"WindowCenter": centre, "WindowWidth": 900, "VOILUTFunction": function}
    image = radiograph(12, signed=signed)
    found = read(tmp_path, image, bits=12, **tags).pixels
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    assert np.abs(found - stretched(expected)).max() <= 1


def lut(values: np.ndarray, first: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(values), first, 16]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = values.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    return item


def test_modality_and_voi_luts(tmp_path: Path) -> None:
    image = radiograph(12)
    curve = (np.sqrt(np.arange(3000) / 3000) * 60_000).astype(np.uint16)
    voi = read(tmp_path, image, bits=12, VOILUTSequence=[lut(curve, first=500)]).pixels
    assert np.array_equal(voi, curve[np.clip(image.astype(int) - 500, 0, 2999)])
    modality = read(tmp_path, image, bits=12, ModalityLUTSequence=[lut(curve, first=500)]).pixels
    assert np.array_equal(modality, voi)
    second = lut(curve[::-1].copy(), first=0)
    both = {"VOILUTSequence": [lut(curve, first=0), second], "WindowCenter": 100, "WindowWidth": 50}
    assert np.array_equal(read(tmp_path, image, bits=12, window=2, **both).pixels, curve[::-1][np.clip(image, 0, 2999)])


def test_eight_bit_values_in_sixteen_bits_keep_them_and_their_window_is_left_out(tmp_path: Path) -> None:
    image = radiograph(8)
    found = read(tmp_path, image.astype(np.uint16), bits=12, WindowCenter=2048, WindowWidth=1000).pixels
    assert found.dtype == np.uint8
    assert np.array_equal(found, image)


def test_a_baseline_jpeg_may_come_at_half_size_and_one_with_a_window_may_not(tmp_path: Path) -> None:
    image = radiograph(8, shape=(128, 96))
    write_dicom(tmp_path / "a.dcm", image, bits=8, syntax=uid.JPEGBaseline8Bit)
    found = read_dicom(tmp_path / "a.dcm", "row 1", at_least=48)
    assert (found.pixels.shape, found.full_size) == ((64, 48), (128, 96))
    averaged = image.reshape(64, 2, 48, 2).mean((1, 3))
    assert np.abs(found.pixels - averaged).mean() < 1
    assert read_dicom(tmp_path / "a.dcm", "row 1", at_least=49).pixels.shape == (128, 96)
    window = {"WindowCenter": 100, "WindowWidth": 50}
    write_dicom(tmp_path / "b.dcm", image, bits=8, syntax=uid.JPEGBaseline8Bit, **window)
    assert read_dicom(tmp_path / "b.dcm", "row 1", at_least=48).pixels.shape == (128, 96)
    assert read_dicom(tmp_path / "b.dcm", "row 1", at_least=48, window=0).pixels.shape == (64, 48)


def _written(folder: Path, image: np.ndarray, **options: Any) -> Path:
    write_dicom(folder / "a.dcm", image, **options)
    return folder / "a.dcm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"NumberOfFrames": 2}, "it has 2 frames, and a radiograph has one"),
        ({"PhotometricInterpretation": "RGB"}, "it is in colour: write it as a grey PNG"),
        ({"SamplesPerPixel": 3}, "it is in colour"),
        ({"Rows": None, "BitsStored": None}, "its header has no Rows, BitsStored"),
        ({"BitsAllocated": 32}, "it stores 12 of 32 bits"),
        ({"BitsStored": 17}, "it stores 17 of 16 bits"),
        ({"PixelData": None}, "this is no DICOM image"),
        ({"Rows": 62}, "its pixels are cut short: copy it again"),
        ({"WindowCenter": 100, "WindowWidth": 0}, "its window or a lookup table cannot be used: --window 0 leaves"),
        (
            {"VOILUTFunction": "CURVED", "WindowCenter": 9, "WindowWidth": 9},
            "its window or a lookup table cannot be used",
        ),
        ({"syntax": uid.JPEGLSLossless, "Rows": 62}, "its pixels are 61 x 48, its header says 62 x 48"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"table\.csv row 7: {message}"):
        read(tmp_path, radiograph(12), bits=12, **options)


def test_a_window_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="window 3 is asked for and it has 2: give --window 1, or 0 for none"):
        read(tmp_path, radiograph(12), bits=12, window=3, **WINDOW)


@pytest.mark.parametrize("syntax", [s for s in (*LOSSLESS, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000)],
                         ids=lambda syntax: syntax.keyword)  # fmt: skip
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, syntax: uid.UID, share: float) -> None:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    data = encode_dicom(radiograph(bits), bits=bits, syntax=syntax)
    (tmp_path / "a.dcm").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"table\.csv row 7: "):
        read_dicom(tmp_path / "a.dcm", "table.csv row 7")


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless,
                                    uid.JPEGBaseline8Bit], ids=lambda syntax: syntax.keyword)  # fmt: skip
def test_a_frame_that_was_cut_before_it_was_wrapped_is_named(tmp_path: Path, syntax: uid.UID) -> None:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    dataset = pydicom.dcmread(_written(tmp_path, radiograph(bits), bits=bits, syntax=syntax))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"row 1: its pixels are (cut short|damaged)"):
        read_dicom(tmp_path / "b.dcm", "row 1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.dcm", None, "there is no such image file"),
        ("a.dcm", b"", "this is no DICOM image"),
        ("a.dcm", b"<html><body>Please log in</body></html>", "DICOM"),
        ("a.dcm", b"\x89PNG\r\n\x1a\n" + bytes(300), "DICOM"),
        ("a.dcm.gz", b"no gzip", "its file is no whole DICOM file: copy it again"),
    ],
)
def test_what_is_no_dicom_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"row 7: .*{message}"):
        read_dicom(tmp_path / name, "row 7")


def test_a_compressed_file_that_has_lost_its_header(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(_written(tmp_path, radiograph(12), bits=12, syntax=uid.JPEGLSLossless))
    data = (tmp_path / "a.dcm").read_bytes()
    start = data.index(b"\x28\x00\x02\x00US")  # the first element of the data set
    (tmp_path / "b.dcm").write_bytes(data[start:])
    assert dataset.file_meta.TransferSyntaxUID == uid.JPEGLSLossless
    with pytest.raises(DataError, match="its pixels are compressed and it does not say how"):
        read_dicom(tmp_path / "b.dcm", "row 1")


def test_a_syntax_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(_written(tmp_path, radiograph(12), bits=12, syntax=uid.JPEGLSLossless))
    dataset.file_meta.TransferSyntaxUID = uid.MPEG4HP41
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"its pixels are in MPEG-4 AVC.*: export it as JPEG 2000 or uncompressed"):
        read_dicom(tmp_path / "b.dcm", "row 1")


@pytest.mark.evidence("Reading DICOM says nothing of what its header holds", how="cpu")
def test_nothing_of_the_header_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = {
        "PatientName": "SECRET^NAME" * 9, "PatientBirthDate": "SECRET19", "AccessionNumber": "SECRET-ACCESSION" * 9,
        "ViewPosition": "SECRET-VIEW" * 9, "WindowCenter": 100, "WindowWidth": 0, "PatientAge": "SECRETAGE",
    }  # fmt: skip
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("ignore")
        write_dicom(tmp_path / "a.dcm", radiograph(12), bits=12, **secret)
        caplog.clear()
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            read_dicom(tmp_path / "a.dcm", "row 1")
    assert "SECRET" not in str(caught.value) + caplog.text
    assert b"SECRET" in (tmp_path / "a.dcm").read_bytes()


@pytest.mark.parametrize("table", [(3, 64), (2, 4_000_000_000, 90), (2, 64, 64), (0,), (2, 64, 70_000)])
def test_a_damaged_table_of_segments_does_not_end_the_process(tmp_path: Path, table: tuple[int, ...]) -> None:
    dataset = pydicom.dcmread(_written(tmp_path, radiograph(12), bits=12, syntax=uid.RLELossless))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    damaged = np.zeros(16, "<u4")
    damaged[: len(table)] = table
    dataset.PixelData = encapsulate([damaged.tobytes() + frame[64:]])
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"row 1: its pixels are damaged"):
        read_dicom(tmp_path / "b.dcm", "row 1")


def test_a_header_whose_numbers_are_lists_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its file is no whole DICOM file: copy it again"):
        read(tmp_path, radiograph(12), bits=12, BitsStored=[12, 12])
