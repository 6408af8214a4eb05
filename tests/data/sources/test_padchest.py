"""PadChest: lists and arrays in cells, 16-bit PNG, truncated files, views and ages."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.images import to_eight_bit
from msvl.data.phantom.miniatures.padchest import HEADER, ROOT, TABLE
from msvl.data.sources.padchest import FINDINGS, PadChestSource, read_array, read_names
from tests.helpers.miniatures import replace_in, source_of, write_miniature

NAME = "padchest"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("padchest"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "padchest")
    return tmp_path / "padchest"


def rows(folder: Path) -> list[dict[str, str]]:
    text = gzip.decompress((folder / ROOT / TABLE).read_bytes()).decode()
    return list(csv.DictReader(io.StringIO(text)))


def change(folder: Path, column: str, value: str, row: int = 0) -> None:
    changed = rows(folder)
    changed[row][column] = value
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER)
    writer.writeheader()
    writer.writerows(changed)
    (folder / ROOT / TABLE).write_bytes(gzip.compress(text.getvalue().encode()))


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['pacemaker', 'chronic changes']", ["pacemaker", "chronic changes"]),
        ("[' pneumonia', 'pneumonia', '']", ["pneumonia"]),
        ("['loc  basal bilateral']", ["loc basal bilateral"]),
        ("['nodule',\n 'mass']", ["nodule", "mass"]),
        ("[]", []),
        ("nan", None),
        ("", None),
    ],
)
def test_lists_in_cells(cell: str, names: list[str] | None) -> None:
    assert read_names(cell, "row 1", "Labels") == names


@pytest.mark.parametrize("cell", ["['a'", "a", "5", "[1]"])
def test_cells_that_are_no_lists_are_named(cell: str) -> None:
    with pytest.raises(DataError, match=r"row 1: Labels is no list such as \['pneumonia', 'nodule'\]"):
        read_names(cell, "row 1", "Labels")


def test_arrays_have_no_commas_and_are_not_run_together() -> None:
    assert read_array("['C0025552' 'C4273001' '' 'C0016542']") == ["C0025552", "C4273001", "C0016542"]
    assert read_array("[]") == []


def test_a_label_is_the_whole_name(folder: Path) -> None:
    change(folder, "Labels", "['atypical pneumonia', 'suboptimal study']")
    change(folder, "Labels", "['pneumonia']", row=1)
    entry = source_of(NAME, folder).entries()[0]
    assert entry.labels["atypical pneumonia"] == 1 and entry.labels["pneumonia"] == 0
    record = source_of(NAME, folder).record(entry)
    assert record.extra["names"] == ["atypical pneumonia", "suboptimal study"]


def test_the_table_has_an_unnamed_column_cells_of_several_lines_and_long_ids(original: Path) -> None:
    table = rows(original)
    assert HEADER[0] == "" and any("\n" in row["Labels"] for row in table) and "labelCUIS" in table[0]
    found = source_of(NAME, original, "--views", "all").entries()
    assert [entry.patient for entry in found] == [row["PatientID"] for row in table]
    assert all(len(entry.patient) == 38 for entry in found)
    for row, entry in zip(table, found, strict=True):
        assert {name for name, state in entry.labels.items() if state} == {
            n for n in entry.labels if f"'{n}'" in row["Labels"]
        }
    record = source_of(NAME, original).record(found[0])
    assert record.extra["cuis"] == ["C0025552", "C4273001", "C0016542"]
    assert record.extra["locations"] == ["loc basal bilateral"]


def test_missing_labels_are_not_known_rather_than_absent(folder: Path) -> None:
    change(folder, "Labels", "nan")
    entry = source_of(NAME, folder).entries()[0]
    assert set(entry.labels.values()) == {None}
    assert "names" not in source_of(NAME, folder).record(entry).extra


@pytest.mark.evidence("16-bit PNG are read without clipping", how="cpu")
def test_sixteen_bits_are_not_clipped(original: Path) -> None:
    source = source_of(NAME, original)
    for entry in source.entries():
        stored = cv2.imread(str(original / ROOT / "images" / entry.payload["path"]), cv2.IMREAD_UNCHANGED)
        image = source.record(entry).image
        assert image.dtype == np.uint16 and np.array_equal(image, stored) and stored.max() > 255
        shown = to_eight_bit(image)
        assert len(np.unique(shown)) > 100 and (shown == 255).mean() < 0.2


def test_views_are_those_of_projection_and_not_of_the_dicom_tag(original: Path) -> None:
    table = {row["ImageID"]: row for row in rows(original)}
    assert {(row["Projection"], row["ViewPosition_DICOM"]) for row in table.values()} >= {
        ("PA", "LATERAL"),
        ("L", "LATERAL"),
    }
    for entry in source_of(NAME, original, "--views", "all").entries():
        assert entry.view == table[entry.image]["Projection"]


def test_names_of_images_have_two_forms_and_the_table_may_be_unpacked(folder: Path) -> None:
    source = source_of(NAME, folder)
    found = source.entries()
    assert {name.count("-") for name in (entry.image for entry in found)} == {0, 2}
    assert all(entry.split is None for entry in found), "there is no official split"
    table = folder / ROOT / TABLE
    table.with_suffix("").write_bytes(gzip.decompress(table.read_bytes()))
    table.unlink()
    assert [entry.image for entry in source_of(NAME, folder).entries()] == [entry.image for entry in found]


def test_the_stemmed_reports_are_not_read(folder: Path) -> None:
    assert rows(folder)[0]["Report"].startswith("sin hallazg")
    change(folder, "Report", "")
    source = source_of(NAME, folder)
    assert not source.has_reports and {source.record(entry).report for entry in source.entries()} == {""}


def test_views_ages_and_order(original: Path) -> None:
    found = source_of(NAME, original).entries()
    assert {entry.view for entry in found} == {"PA"}
    laterals = source_of(NAME, original, "--views", "lateral").entries()
    assert {entry.view for entry in laterals} == {"L"} and len(found) + len(laterals) == len(rows(original))
    assert all(20 <= entry.extra["age"] <= 90 and entry.extra["sex"] in "MF" for entry in found)
    assert {entry.order for entry in found} == {20131219.0, 20131220.0}


def test_projections_that_are_no_chest_view(folder: Path) -> None:
    for place, projection in enumerate(("COSTAL", "EXCLUDE", "AP_horizontal")):
        change(folder, "Projection", projection, row=place)
    names = [row["ImageID"] for row in rows(folder)]
    frontal = {entry.image for entry in source_of(NAME, folder).entries()}
    assert names[2] in frontal and not {names[0], names[1]} & frontal
    assert {entry.image for entry in source_of(NAME, folder, "--views", "other").entries()} == {names[0], names[1]}


def test_a_truncated_or_missing_image_and_one_marked_exclude_are_dropped_with_their_reason(folder: Path) -> None:
    source = source_of(NAME, folder)
    cut, gone, excluded = source.entries()[:3]
    path = folder / ROOT / "images" / cut.payload["path"]
    path.write_bytes(path.read_bytes()[:-200])
    (folder / ROOT / "images" / gone.payload["path"]).unlink()
    with pytest.raises(DataError, match=r"row \d+: .* is empty, cut short or no image"):
        source.record(cut)
    with pytest.raises(DataError, match="there is no such image file"):
        source.record(gone)
    row = next(place for place, row in enumerate(rows(folder)) if row["ImageID"] == excluded.image)
    change(folder, "Labels", "['exclude']", row=row)
    source = source_of(NAME, folder)
    with pytest.raises(DataError, match=r"row \d+: its label is exclude: a radiograph of no use"):
        source.record(next(entry for entry in source.entries() if entry.image == excluded.image))


def test_findings_that_no_image_has_are_named_and_left_out(original: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = source_of(NAME, original).entries()
    assert "no image has these labels, which are left out: air trapping, alveolar pattern" in caplog.text
    names = {name for row in rows(original) for name in read_names(row["Labels"], "row", "Labels") or ()}
    assert set(found[0].labels) == names <= set(FINDINGS)


def test_only_what_physicians_labelled(original: Path) -> None:
    found = source_of(NAME, original, "--labelled-by", "physician").entries()
    expected = {
        row["ImageID"] for row in rows(original) if row["MethodLabel"] == "Physician" and row["Projection"] == "PA"
    }
    assert {entry.image for entry in found} == expected < {row["ImageID"] for row in rows(original)}


def test_other_findings_and_a_misspelled_one(folder: Path) -> None:
    found = source_of(NAME, folder, "--findings", "cardiomegaly, nodule").entries()
    assert all(list(entry.labels) == ["cardiomegaly", "nodule"] for entry in found)
    with pytest.raises(
        DataError, match="--findings cardiomegali: no image has this label: did you mean 'cardiomegaly'"
    ):
        source_of(NAME, folder, "--findings", "cardiomegali").entries()


def test_folders_without_images_above_them(folder: Path, original: Path) -> None:
    root = folder / ROOT
    for place in (root / "images").iterdir():
        place.rename(root / place.name)
    (root / "images").rmdir()
    source, whole = source_of(NAME, folder), source_of(NAME, original)
    entry = source.entries()[0]
    assert np.array_equal(source.record(entry).image, whole.record(entry).image)


def test_faults_are_named(folder: Path) -> None:
    change(folder, "PatientID", "")
    with pytest.raises(DataError, match=r"01\.02\.19\.csv\.gz row 2: ImageID or PatientID is empty"):
        source_of(NAME, folder).entries()
    replace_in(folder / ROOT / TABLE, "Projection", "Projektion")
    with pytest.raises(DataError, match="there is no column 'Projection'"):
        source_of(NAME, folder).entries()
    (folder / ROOT / TABLE).unlink()
    with pytest.raises(DataError, match=r"has no PADCHEST_chest_x_ray_images_labels_160K_01\.02\.19\.csv or .*\.gz"):
        PadChestSource(folder / ROOT)
