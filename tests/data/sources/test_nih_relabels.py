"""Google's labels of NIH ChestX-ray14: four states of their own, their own sets, beside the official lists."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.phantom.miniatures.nih_chestxray14 import HEADER
from msvl.data.sources.nih_relabels import FINDINGS
from msvl.data.study import Entry
from tests.helpers.miniatures import source_of, write_miniature

NAME = "nih-chestxray14"
TABLE = "google2019_nih-chest-xray-labels.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("nih"))


def write_relabels(path: Path, images: list[tuple[Entry, str]], *, ends: str = "\r\n") -> Path:
    """Write the table as published: the columns of NIH, with commas inside their names, then four answers and the set."""
    rows = [f"{HEADER},{','.join(FINDINGS)},Set Id"]
    for number, (entry, name) in enumerate(images):
        answers = ",".join("YES" if number >> bit & 1 else "NO" for bit in range(4))
        rows.append(f"{entry.image},No Finding,0,{int(entry.patient)},50,M,PA,2894,2729,0.143,0.143,{answers},{name}")
    data = (ends.join(rows) + ends).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def chosen(folder: Path) -> list[tuple[Entry, str]]:
    """Return two images of the official test for test, one of its training for val."""
    found = source_of(NAME, folder).entries()
    test, train = ([entry for entry in found if (entry.split == "test") == wanted] for wanted in (True, False))
    return [(train[0], "val"), (test[0], "test"), (test[1], "test")]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_relabelled_images_alone_with_their_labels_and_sets(folder: Path, tmp_path: Path, ending: str) -> None:
    images = chosen(folder)
    table = write_relabels(tmp_path / f"{TABLE}{ending}", images)
    source = source_of(NAME, folder, "--relabels", str(table))
    found = {entry.image: entry for entry in source.entries()}
    assert {image: entry.split for image, entry in found.items()} == {entry.image: name for entry, name in images}
    for number, (entry, _) in enumerate(images):
        now = found[entry.image]
        assert now.labels == {finding: number >> bit & 1 for bit, finding in enumerate(FINDINGS)}
        assert (now.patient, now.study, now.view, now.extra) == (entry.patient, entry.study, entry.view, entry.extra)
    settings = source.settings()
    assert len(settings["relabels"][table.name]) == 64 and settings != source_of(NAME, folder).settings()


def test_a_test_image_that_is_a_training_image_of_the_official_split_is_told(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (train, _), *test = chosen(folder)
    with caplog.at_level(logging.WARNING):
        source_of(NAME, folder, "--relabels", str(write_relabels(tmp_path / TABLE, test))).entries()
        assert "relabelled test set" not in caplog.text
        table = write_relabels(tmp_path / TABLE, [(train, "test"), *test])
        source_of(NAME, folder, "--relabels", str(table)).entries()
    assert "1 images of the relabelled test set are in train_val_list.txt" in caplog.text
    assert train.image not in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",Set Id", "", rf"{TABLE}: there is no column 'Set Id'"),
        (",val\r", ",tune\r", rf"{TABLE} row 2: Set Id is a text of 4 characters; expected val or test"),
        (",YES", ",MAYBE", rf"{TABLE} row 3: label .* in column 'Fracture'; expected 1, 0, -1 or blank"),
        ("\r\n0000", "\r\n9999", rf"{TABLE} row 2: NIH's table has no such image, nor 2 others"),
    ],
)
def test_faults_are_named_with_file_and_row(folder: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    table = write_relabels(tmp_path / TABLE, chosen(folder))
    text = table.read_bytes().decode()
    assert old in text
    table.write_bytes(text.replace(old, new).encode())
    with pytest.raises(DataError, match=message):
        source_of(NAME, folder, "--relabels", str(table)).entries()


def test_an_image_with_two_rows_is_named(folder: Path, tmp_path: Path) -> None:
    images = chosen(folder)
    table = write_relabels(tmp_path / TABLE, [*images, images[0]])
    with pytest.raises(DataError, match=rf"{TABLE} row 5: its image has a row above already"):
        source_of(NAME, folder, "--relabels", str(table)).entries()
