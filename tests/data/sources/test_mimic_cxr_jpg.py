"""MIMIC-CXR-JPG: its layout and every known oddity of it."""

from __future__ import annotations

import gzip
import logging
import re
from collections import Counter
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.csv_table import read_rows
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.phantom.miniatures.mimic_cxr_jpg import JPG, METADATA, REPORTS
from msvl.data.sources.mimic_cxr_jpg import patients_named, study_time
from msvl.data.study import Entry
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "mimic-cxr-jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("mimic"))


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[Entry]:
    return source_of(NAME, folder).entries()


def metadata(folder: Path) -> list[dict[str, str]]:
    return [row for _, row in read_rows(folder / JPG / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA)]


def test_ids_splits_and_paths_are_those_of_the_tables(folder: Path, entries: list[Entry]) -> None:
    assert Counter(entry.split for entry in entries).keys() == {"train", "val", "test"}
    rows = {row["dicom_id"]: row for row in metadata(folder)}
    for entry in entries:
        row = rows[entry.image]
        assert (entry.patient, entry.study) == (row["subject_id"], row["study_id"])
        assert entry.where.startswith("mimic-cxr-2.0.0-metadata.csv.gz row ")
        assert (folder / JPG / entry.payload["path"]).is_file()


def test_laterals_are_left_out_and_counted_and_blank_views_looked_up(
    folder: Path, entries: list[Entry], caplog: pytest.LogCaptureFixture
) -> None:
    rows = metadata(folder)
    assert any(not row["ViewPosition"] for row in rows)
    frontal = [row for row in rows if row["ViewCodeSequence_CodeMeaning"] == "postero-anterior"]
    assert len(entries) == len(frontal) < len(rows)
    assert {entry.view for entry in entries} == {"PA"}
    with caplog.at_level(logging.WARNING):
        everything = source_of(NAME, folder, "--views", "all").entries()
        laterals = source_of(NAME, folder, "--views", "lateral").entries()
    assert len(everything) == len(rows) == len(entries) + len(laterals)
    assert f"left out by --views: frontal {len(entries)}" in caplog.text


def test_the_device_tells_a_view_that_nothing_else_tells(tmp_path: Path) -> None:
    folder = write_miniature(NAME, tmp_path, train=2, val=0, test=0)
    table = folder / JPG / "mimic-cxr-2.0.0-metadata.csv.gz"
    lines = gzip.decompress(table.read_bytes()).decode().splitlines()
    changed = [lines[0] + ",AcquisitionDeviceProcessingDescription"]
    for line in lines[1:]:
        changed.append(line.replace(",PA,", ",,").replace(",postero-anterior,", ",,") + ",CHEST AP WITH GRID")
    table.write_bytes(gzip.compress("\n".join(changed).encode()))
    assert {entry.view for entry in source_of(NAME, folder).entries()} == {"AP"}


@pytest.mark.parametrize("name", [NAME, "mimic-cxr"])
def test_views_that_were_corrected_by_hand_replace_those_of_the_metadata(tmp_path: Path, name: str) -> None:
    folder = write_miniature(name, tmp_path / "set")
    everything = source_of(name, folder, "--views", "all").entries()
    lateral, first, second = (
        next(e for e in everything if e.view == "LATERAL"),
        *[e for e in everything if e.view == "PA"][:2],
    )
    table = tmp_path / "corrections.csv"
    table.write_text(
        f"dicom_id,ViewPosition,why\n{lateral.image},AP,seen\n{first.image},LL,seen\n{second.image},AP LLD,seen\n"
    )
    views = {
        entry.image: entry.view
        for entry in source_of(name, folder, "--views", "all", "--view-corrections", str(table)).entries()
    }
    expected = {entry.image: entry.view for entry in everything}
    assert views == expected | {lateral.image: "AP", first.image: "LL", second.image: "AP LLD"}
    source = source_of(name, folder, "--view-corrections", str(table))
    frontal = {entry.image for entry in source.entries()}
    assert lateral.image in frontal and not {first.image, second.image} & frontal
    assert source.settings()["view_corrections"] != source_of(name, folder).settings()["view_corrections"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{0},\n", r"corrections\.csv row 2: ViewPosition is .*; give PA, AP, LATERAL or another view"),
        ("{0},AP\n{0},LL\n", r"corrections\.csv row 3: its image has another ViewPosition above"),
        ("{0},AP\n{0}0,AP\n", r"--view-corrections .*: 1 of its 2 images are not in the metadata"),
    ],
)
def test_corrections_that_fit_nothing(folder: Path, tmp_path: Path, rows: str, message: str) -> None:
    table = tmp_path / "corrections.csv"
    table.write_text("dicom_id,ViewPosition\n" + rows.format(metadata(folder)[0]["dicom_id"]))
    with pytest.raises(DataError, match=message):
        source_of(NAME, folder, "--view-corrections", str(table)).entries()


def test_an_image_with_two_splits_is_named(tmp_path: Path) -> None:
    folder = write_miniature(NAME, tmp_path, train=2, val=1, test=1)
    table = folder / JPG / "mimic-cxr-2.0.0-split.csv.gz"
    lines = gzip.decompress(table.read_bytes()).decode().splitlines()
    lines.append(lines[1].replace(",train", ",test"))
    table.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(DataError, match=rf"split\.csv\.gz row {len(lines)}: its image has another split above"):
        source_of(NAME, folder).entries()


def test_labels_keep_their_four_states_and_a_study_without_a_row_has_none(folder: Path, entries: list[Entry]) -> None:
    states = Counter(state for entry in entries for state in entry.labels.values())
    assert set(states) == {1, 0, -1, None}
    assert sum(not entry.labels for entry in entries) == 1
    blank = [entry for entry in entries if entry.labels and set(entry.labels.values()) == {None}]
    assert len(blank) == 1, "a row without any label is a row"
    assert all(entry.labels.get("No Finding") in (1, None) for entry in entries)


def test_labels_of_radiologists_are_for_the_test_split_and_airspace_opacity_is_lung_opacity(folder: Path) -> None:
    found = source_of(NAME, folder, "--labels", "radiologist").entries()
    assert all(bool(entry.labels) == (entry.split == "test") for entry in found)
    labelled = next(entry for entry in found if entry.labels)
    assert "Lung Opacity" in labelled.labels and "Airspace Opacity" not in labelled.labels
    assert len(source_of(NAME, folder, "--labels", "negbio").entries()) == len(found)
    assert not any(entry.labels for entry in source_of(NAME, folder, "--labels", "none").entries())


def test_tables_may_be_unpacked_and_version_2_0_0_has_no_labels_of_radiologists(
    folder: Path, entries: list[Entry], tmp_path: Path
) -> None:
    root = tmp_path / "mimic-cxr-jpg" / "2.0.0"
    root.mkdir(parents=True)
    (root / "files").symlink_to(folder / JPG / "files")
    for table in (folder / JPG).glob("*.csv.gz"):
        (root / table.stem).write_bytes(gzip.decompress(table.read_bytes()))
    found = source_from([NAME, "--images", str(root)]).entries()
    assert [(e.image, e.split, e.labels) for e in found] == [(e.image, e.split, e.labels) for e in entries]
    assert {entry.where.rpartition(" row ")[0] for entry in found} == {"mimic-cxr-2.0.0-metadata.csv"}
    with pytest.raises(DataError, match=r"has no mimic-cxr-2\.1\.0-test-set-labeled\.csv\.gz: download it"):
        source_from([NAME, "--images", str(root), "--labels", "radiologist"]).entries()


def test_a_time_without_its_leading_zeros_sorts_as_a_time() -> None:
    """80556.875 is 08:05:56.875, before 213014.531."""
    assert study_time("21800506", "80556.875", "row") < study_time("21800506", "213014.531", "row")
    assert study_time("21800506", "213014.531", "row") < study_time("21800507", "0", "row")
    assert study_time("21800506", "", "row") < study_time("21800506", "1.5", "row")
    with pytest.raises(DataError, match="row 2: StudyDate or StudyTime is no date and time"):
        study_time("6/5/2180", "1", "row 2")


def test_studies_are_ranked_by_date_though_their_numbers_are_random(folder: Path) -> None:
    jobs = [job for unit in plan(source_of(NAME, folder), PackOptions()) for job in unit.jobs]
    by_patient: dict[str, list] = {}
    for job in jobs:
        by_patient.setdefault(job.patient, []).append(job)
    pairs = [sorted(own, key=lambda job: job.study_rank) for own in by_patient.values() if len(own) == 2]
    assert pairs
    for first, second in pairs:
        assert (first.study_rank, second.study_rank) == (0, 1)
        assert (first.prior, second.prior) == (None, first.study)
        assert first.entry.order < second.entry.order
    assert any(first.entry.study > second.entry.study for first, second in pairs)


@pytest.mark.parametrize("below", ["mimic-cxr-reports/files", "mimic-cxr-reports", "files", ""])
def test_reports_are_found_where_unpacking_puts_them(folder: Path, tmp_path: Path, below: str) -> None:
    packed = folder / REPORTS / "mimic-cxr-reports" / "files"
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    for item in packed.iterdir():
        (tmp_path / below / item.name).symlink_to(item)
    source = source_from([NAME, "--images", str(folder / JPG), "--reports", str(tmp_path)])
    entry = source.entries()[0]
    path = packed / f"p{entry.patient[:2]}" / f"p{entry.patient}" / f"s{entry.study}.txt"
    assert source.record(entry).report == path.read_text()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mimic-cxr-reports.zip", "unzip -q mimic-cxr-reports.zip -d mimic-cxr-reports"),
        ("mimic-cxr-reports.tar.gz", "mkdir mimic-cxr-reports; tar -xf mimic-cxr-reports.tar.gz -C mimic-cxr-reports"),
    ],
)
def test_an_archive_of_reports_is_told_how_to_be_unpacked(
    folder: Path, tmp_path: Path, name: str, command: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=re.escape(f"is a file: unpack it ({command}) and name the folder")):
        source_from([NAME, "--images", str(folder / JPG), "--reports", str(tmp_path / name)])


def test_a_table_of_sections_stands_in_for_the_reports(folder: Path, tmp_path: Path) -> None:
    studies = [entry.study for entry in source_of(NAME, folder).entries()]
    table = tmp_path / "mimic_cxr_sectioned.csv"
    table.write_text(
        "study,impression,findings,last_paragraph,comparison\n"
        f's{studies[0]},Normal chest.,"Clear\nlungs.",Whole end.,None.\n'
        f"s{studies[1]},,nan,The lungs are clear.,\n"
        f"s{studies[2]},,,,None.\n"
    )
    source = source_from([NAME, "--images", str(folder / JPG), "--sections", str(table)])
    reports = {entry.study: source.record(entry).report for entry in source.entries()}
    assert reports[studies[0]] == "COMPARISON: None.\n\nFINDINGS: Clear\nlungs.\n\nIMPRESSION: Normal chest."
    assert reports[studies[1]] == "LAST PARAGRAPH: The lungs are clear."
    assert reports[studies[2]] == "COMPARISON: None."
    assert reports[studies[3]] == ""


def test_without_reports_it_is_a_labelled_set(folder: Path) -> None:
    source = source_from([NAME, "--images", str(folder / JPG)])
    assert not source.has_reports
    assert source.record(source.entries()[0]).report == ""


def test_patients_of_ms_cxr_are_left_out(folder: Path, entries: list[Entry], tmp_path: Path) -> None:
    out, other = entries[0].patient, entries[-1].patient
    listed = tmp_path / "ms_cxr.csv"
    listed.write_text(f"path,x\nfiles/p10/p{out}/s50000001/{'12345678-' * 4}12345678.jpg,1\n")
    assert patients_named(listed) == {out}
    kept = {entry.patient for entry in source_of(NAME, folder, "--without", str(listed)).entries()}
    assert out not in kept and other in kept
    listed.write_text(f"{out}\np{other}\n")
    assert patients_named(listed) == {out, other}


def test_ids_that_a_spreadsheet_turned_into_floats_are_named(tmp_path: Path) -> None:
    folder = write_miniature(NAME, tmp_path, train=2, val=0, test=0)
    subject = metadata(folder)[0]["subject_id"]
    replace_in(folder / JPG / "mimic-cxr-2.0.0-metadata.csv.gz", f",{subject},", f",{subject}.0,")
    with pytest.raises(
        DataError, match=r"metadata\.csv\.gz row 2: subject_id is no id of MIMIC-CXR; a spreadsheet may have changed"
    ):
        source_of(NAME, folder).entries()
