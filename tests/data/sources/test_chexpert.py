"""CheXpert: both versions, batches, and every known oddity."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.csv_table import read_rows
from msvl.data.label_states import CHEXPERT_FINDINGS
from msvl.data.phantom.miniatures.chexpert import BATCHES, HEADER, ORIGINAL, SMALL, VALID
from msvl.data.study import Entry
from tests.helpers.miniatures import by_image, source_from, source_of, write_miniature

NAME = "chexpert"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("chexpert"))


def entries(folder: Path, root: str, *words: str) -> list[Entry]:
    return source_from([NAME, "--images", str(folder / root), *words]).entries()


def test_small_and_original_list_the_same_and_files_are_found_in_the_batches(folder: Path) -> None:
    small, original = by_image(entries(folder, SMALL)), by_image(entries(folder, ORIGINAL))
    assert small.keys() == original.keys()
    assert all((folder / SMALL / entry.payload).is_file() for entry in small.values())
    assert all((folder / ORIGINAL / entry.payload).is_file() for entry in original.values())
    assert {Path(entry.payload).parts[0] for entry in original.values()} == {VALID, *BATCHES}
    for key, entry in small.items():
        assert (entry.patient, entry.split, entry.labels) == (
            original[key].patient,
            original[key].split,
            original[key].labels,
        )


def test_every_row_keeps_its_own_labels_in_four_states(folder: Path) -> None:
    rows = {row["Path"].split("/", 1)[1]: row for _, row in read_rows(folder / SMALL / "train.csv", HEADER)}
    found = [entry for entry in entries(folder, SMALL, "--views", "all") if entry.split == "train"]
    assert len(found) == len(rows)
    states = {"1.0": 1, "0.0": 0, "-1.0": -1, "": None}
    for entry in found:
        row = rows[f"train/{entry.study}/{entry.image}.jpg"]
        assert entry.labels == {name: states[row[name]] for name in CHEXPERT_FINDINGS}
    assert {state for entry in found for state in entry.labels.values()} == {1, 0, -1, None}


def test_age_zero_and_sex_unknown_are_not_known(folder: Path) -> None:
    found = entries(folder, SMALL)
    assert sum("age" not in entry.extra for entry in found) == 1
    assert sum("sex" not in entry.extra for entry in found) == 1
    assert min(entry.extra["age"] for entry in found if "age" in entry.extra) >= 20


def test_a_frontal_image_marked_ll_is_frontal_and_laterals_have_no_side(folder: Path) -> None:
    rows = [row for _, row in read_rows(folder / SMALL / "train.csv", HEADER)]
    assert any(row["AP/PA"] == "LL" and row["Frontal/Lateral"] == "Frontal" for row in rows)
    found = [entry for entry in entries(folder, SMALL) if entry.split == "train"]
    assert len(found) == sum(row["Frontal/Lateral"] == "Frontal" for row in rows)
    assert Counter(entry.view for entry in found)["frontal"] == 1
    assert {entry.view for entry in entries(folder, SMALL, "--views", "lateral")} == {"lateral"}


def test_view_two_can_be_the_frontal_one(folder: Path) -> None:
    assert {entry.image for entry in entries(folder, SMALL)} == {"view1_frontal", "view2_frontal"}


def test_splits_and_the_test_table_keyed_by_study(folder: Path) -> None:
    assert {entry.split for entry in entries(folder, SMALL)} == {"train", "val"}
    found = source_of(NAME, folder).entries()
    test = [entry for entry in found if entry.split == "test"]
    assert {entry.split for entry in found} == {"train", "val", "test"}
    assert len(test) == 2 and all(set(entry.labels.values()) <= {0, 1} for entry in test)
    assert all((folder / SMALL / entry.payload).is_file() for entry in test)


def test_labels_of_other_labellers(folder: Path) -> None:
    assert len(entries(folder, ORIGINAL, "--labels", "chexbert")) == len(entries(folder, ORIGINAL))
    assert len(entries(folder, ORIGINAL, "--labels", "visualchexbert")) == len(entries(folder, ORIGINAL))
    with pytest.raises(DataError, match="has no train_cheXbert.csv, here or one folder below: download it"):
        entries(folder, SMALL, "--labels", "chexbert")


def test_it_has_no_reports(folder: Path) -> None:
    source = source_of(NAME, folder)
    assert not source.has_reports
    assert source.record(source.entries()[0]).report == ""
