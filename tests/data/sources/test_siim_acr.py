"""SIIM-ACR Pneumothorax: run-length masks, both spellings of no mask, folders of both releases."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.phantom.miniatures.siim_acr import ROOT, encode_runs
from msvl.data.run_length import decode_runs
from msvl.data.sources.siim_acr import SiimAcrSource
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "siim-acr"
TABLE = "train-rle.csv"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("siim"), train=16)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "siim")
    return tmp_path / "siim"


def slow_decode(text: str, height: int, width: int) -> np.ndarray:
    """Mark the runs pixel by pixel, as the description of the data set says."""
    mask, position, numbers = np.zeros((height, width), bool), 0, [int(part) for part in text.split()]
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        position += start
        for pixel in range(position, position + length):
            mask[pixel % height, pixel // height] = True
        position += length
    return mask


def test_starts_count_from_the_end_of_the_run_before_and_pixels_go_down_the_columns() -> None:
    mask = decode_runs("1 2 1022 3", 1024, 1024)
    assert sorted(zip(*map(list, np.nonzero(mask)), strict=True)) == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_runs_equal_those_marked_pixel_by_pixel_and_survive_a_round_trip(seed: int) -> None:
    mask = np.random.default_rng(seed).random((13, 9)) < 0.3
    text = encode_runs(mask)
    assert np.array_equal(decode_runs(text, 13, 9), mask)
    assert np.array_equal(slow_decode(text, 13, 9), mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "not pairs of start and length"),
        ("", "not pairs of start and length"),
        ("-4 2", "not pairs of start and length"),
        ("1 x", "not whole numbers"),
        ("100 18", r"end at pixel 118 of 13 x 9: give the image in full size"),
    ],
)
def test_runs_that_fit_no_image(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_runs(text, 13, 9)


def test_several_masks_of_an_image_are_joined(original: Path) -> None:
    rows = [line.split(",") for line in (original / ROOT / TABLE).read_text().splitlines()[1:]]
    source = source_of(NAME, original)
    several = 0
    for entry in source.entries():
        runs = [cells[1] for cells in rows if cells[0] == entry.image and cells[1].strip() != "-1"]
        expected = np.zeros((64, 64), bool)
        for text in runs:
            expected |= slow_decode(text, 64, 64)
        record = source.record(entry)
        assert np.array_equal(record.masks["Pneumothorax"], expected)
        assert entry.labels == {"Pneumothorax": int(bool(runs))}
        several += len(runs) > 1
    assert several, "one image has two masks that overlap"


def test_minus_one_with_and_without_a_blank_is_no_pneumothorax(original: Path) -> None:
    text = (original / ROOT / TABLE).read_text()
    assert text.startswith("ImageId, EncodedPixels\n") and ",-1\n" in text and ", -1\n" in text
    negative = text.count("-1\n")
    assert sum(entry.labels["Pneumothorax"] == 0 for entry in source_of(NAME, original).entries()) == negative


def test_patients_stand_in_the_header_and_studies_in_the_folders(original: Path) -> None:
    found = source_of(NAME, original).entries()
    patients = {entry.patient for entry in found}
    assert len(patients) == 20 < len(found) and patients.isdisjoint(entry.image for entry in found)
    assert all(f"/{entry.study}/" in entry.payload["path"] for entry in found)
    record = source_of(NAME, original).record(found[0])
    assert record.view == "PA" and set(record.extra) == {"sex", "age"}


def test_the_flat_folder_and_the_table_of_later_uploads(original: Path, tmp_path: Path) -> None:
    (tmp_path / "stage_2_images").mkdir()
    for path in (original / ROOT).rglob("*.dcm"):
        shutil.copy(path, tmp_path / "stage_2_images")
    shutil.copy(original / ROOT / TABLE, tmp_path / "stage_2_train.csv")
    flat = source_from([NAME, "--images", str(tmp_path)])
    nested = source_of(NAME, original).entries()
    assert [(e.image, e.patient, e.labels) for e in flat.entries()] == [(e.image, e.patient, e.labels) for e in nested]
    assert np.array_equal(flat.record(flat.entries()[0]).image, source_of(NAME, original).record(nested[0]).image)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" EncodedPixels", "Pixels", "there is no column 'EncodedPixels'"),
        (",-1\n", ",\n", rf"{TABLE} row \d+: EncodedPixels is empty; expected -1"),
    ],
)
def test_faults_are_named_with_file_and_row(folder: Path, old: str, new: str, message: str) -> None:
    replace_in(folder / ROOT / TABLE, old, new)
    with pytest.raises(DataError, match=message):
        source_of(NAME, folder).entries()


def test_joined_tables_mixed_versions_and_missing_files(folder: Path) -> None:
    root = folder / ROOT
    table = root / TABLE
    positive = next(line for line in table.read_text().splitlines()[1:] if not line.endswith("-1"))
    table.write_text(f"{table.read_text()}{positive.split(',')[0]},-1\n")
    with pytest.raises(DataError, match="its image has both -1 and another row: two versions of the table were joined"):
        source_of(NAME, folder).entries()
    shutil.copy(table, root / "stage_2_train.csv")
    with pytest.raises(DataError, match="name one with --table"):
        source_of(NAME, folder)
    (root / "stage_2_train.csv").unlink()
    image = next(root.rglob("*.dcm"))
    (root / "copy").mkdir()
    shutil.copy(image, root / "copy")
    with pytest.raises(DataError, match="keep one version of the images"):
        source_of(NAME, folder).entries()
    for place in ("dicom-images-train", "dicom-images-test", "copy"):
        shutil.rmtree(root / place)
    with pytest.raises(DataError, match="has no .dcm file in it or below"):
        source_of(NAME, folder).entries()
    table.unlink()
    with pytest.raises(DataError, match=rf"has no {TABLE} or stage_2_train\.csv"):
        SiimAcrSource(root)


def test_an_image_without_file_and_a_mask_larger_than_its_image(folder: Path) -> None:
    source = source_of(NAME, folder)
    positive = next(entry for entry in source.entries() if entry.labels["Pneumothorax"])
    replace_in(folder / ROOT / TABLE, positive.payload["runs"][0][1], "4000 500")
    changed = next(entry for entry in source.entries() if entry.image == positive.image)
    with pytest.raises(DataError, match=rf"{TABLE} row \d+: its runs end at pixel 4,500 of 64 x 64"):
        source.record(changed)
    (folder / ROOT / positive.payload["path"]).unlink()
    gone = next(entry for entry in source.entries() if entry.image == positive.image)
    assert gone.patient == gone.image
    with pytest.raises(DataError, match="there is no such image file"):
        source.record(gone)
