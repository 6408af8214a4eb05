"""The PNG copy of SIIM-ACR: the same images, masks and labels as the DICOM, under new names."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.phantom.miniatures.siim_acr import PNG_ROOT
from msvl.data.sources.siim_acr_png import SiimAcrPngSource
from msvl.data.split_lists import ListedSource, read_split_lists
from msvl.data.study import Entry, Source
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "siim-acr"
TRAIN, TEST = "stage_1_train_images.csv", "stage_1_test_images.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("siim"), train=12, test=4)


@pytest.fixture(scope="module")
def dicom(folder: Path) -> Source:
    return source_of(NAME, folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder / PNG_ROOT, tmp_path / PNG_ROOT)


def png(root: Path, *words: str) -> Source:
    return source_from([NAME, "--images", str(root), *words])


def positive(source: Source) -> Entry:
    return next(entry for entry in source.entries() if entry.labels["Pneumothorax"])


def test_the_copy_has_the_pixels_masks_and_labels_of_the_dicom(copy: Path, dicom: Source) -> None:
    source = png(copy)
    assert isinstance(source, SiimAcrPngSource)
    theirs = {entry.image: entry for entry in dicom.entries()}
    found = source.entries()
    assert {entry.image for entry in found} == set(theirs)
    for entry in found:
        one, other = source.record(entry), dicom.record(theirs[entry.image])
        assert np.array_equal(one.image, other.image) and one.labels == other.labels
        assert np.array_equal(np.argwhere(one.masks["Pneumothorax"]), np.argwhere(other.masks["Pneumothorax"]))
    assert any(entry.labels["Pneumothorax"] for entry in found)


def test_the_first_stage_says_what_is_test_and_nobody_says_whose_images_they_are(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = png(copy, "--val-share", "0.4").entries()
    assert {entry.image for entry in found if entry.split == "test"} == {
        line.split(",")[1] for line in (copy / TEST).read_text().splitlines()[1:]
    }
    assert {entry.split for entry in found} == {"train", "val", "test"}
    assert "PNG names no patient, so every image counts as one of its own" in caplog.text


def test_lists_that_name_the_copys_files_fit_it(copy: Path, tmp_path: Path) -> None:
    names = {
        stage: [line.split(",")[0].removesuffix(".png") for line in (copy / table).read_text().splitlines()[1:]]
        for stage, table in (("train", TRAIN), ("test", TEST))
    }
    lists = {"train": names["train"][:8], "val": names["train"][8:], "test": names["test"]}
    for split, own in lists.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(own) + "\n")
    words = [f"{split}={tmp_path / split}.txt" for split in lists]
    listed = ListedSource(png(copy), read_split_lists(words), as_published=False).entries()
    by_split = {split: {Path(e.payload["path"]).stem for e in listed if e.split == split} for split in lists}
    assert by_split == {split: set(own) for split, own in lists.items()}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("has_pneumo", "pneumo", rf"{TRAIN}: there is no column 'has_pneumo'"),
        (",0\n", ",2\n", rf"{TRAIN} row \d+: label .* in column 'has_pneumo'"),
        (",0\n", ",\n", rf"{TRAIN} row \d+: expected the name of a \.png, an ImageId, and 0 or 1"),
        ("_.png", "_.dcm", rf"{TRAIN} row 2: expected the name of a \.png"),
    ],
)
def test_faults_of_a_table_are_named_with_file_and_row(copy: Path, old: str, new: str, message: str) -> None:
    replace_in(copy / TRAIN, old, new)
    with pytest.raises(DataError, match=message):
        png(copy).entries()


def test_an_image_in_both_tables_and_a_folder_that_is_missing(copy: Path) -> None:
    row = (copy / TRAIN).read_text().splitlines()[1]
    (copy / TEST).write_text(f"{(copy / TEST).read_text()}{row}\n")
    with pytest.raises(DataError, match=rf"{TEST} row \d+: its image has a row above or in the other table"):
        png(copy).entries()
    (copy / TEST).unlink()
    (copy / "png_masks").rename(copy / "masks")
    with pytest.raises(DataError, match=rf"has no {TEST}, png_masks: unpack the whole copy there"):
        png(copy)


def test_a_mask_that_contradicts_its_table_or_is_missing(copy: Path) -> None:
    source = png(copy)
    entry = positive(source)
    mask = copy / "png_masks" / Path(entry.payload["path"]).name
    cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)))
    with pytest.raises(DataError, match=r"row \d+: has_pneumo says 1 and the mask is empty"):
        source.record(entry)
    mask.unlink()
    with pytest.raises(DataError, match=r"row \d+: its mask is missing or no image"):
        source.record(entry)
