"""CheXpert Plus: .jpg that is .png, JSON lines called .json, reports in sections with all their dirt."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.phantom.miniatures.chexpert_plus import CLOSING, ROOT
from msvl.data.sample import chosen_sentences, report_fields
from msvl.data.sources.chexpert_plus import SECTIONS, TABLE, report_of
from msvl.data.study import Entry
from tests.helpers.miniatures import source_from, source_of, write_miniature

NAME = "chexpert-plus"
EMPTY = {f"section_{name}": "" for name in SECTIONS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("plus"))


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[Entry]:
    return source_of(NAME, folder, "--views", "all").entries()


def test_the_table_says_jpg_and_the_png_is_read(folder: Path, entries: list[Entry]) -> None:
    table = (folder / ROOT / "df_chexpert_plus_240401.csv").read_text()
    assert table.startswith(",path_to_image,") and "view1_frontal.jpg" in table
    assert all(
        entry.payload["path"].startswith("PNG/PNG/") and entry.payload["path"].endswith(".png") for entry in entries
    )
    assert all((folder / ROOT / entry.payload["path"]).is_file() for entry in entries)


@pytest.mark.parametrize("pixels", ["DICOM/Compressed", "DICOM/Uncompressed"])
def test_dicom_gives_the_pixels_of_the_png_with_monochrome1_and_without_high_bit(folder: Path, pixels: str) -> None:
    png, dicom = source_of(NAME, folder), source_of(NAME, folder, "--pixels", pixels)
    for first, second in zip(png.entries(), dicom.entries(), strict=True):
        assert second.payload["path"].endswith(".dcm")
        # MONOCHROME1 is turned about its own range, so both are compared from their darkest point.
        expected, found = (source.record(entry).image.astype(int) for source, entry in ((png, first), (dicom, second)))
        assert np.array_equal(found - found.min(), expected - expected.min())


def test_images_that_are_not_nested_are_found_too(folder: Path, tmp_path: Path, entries: list[Entry]) -> None:
    shutil.copytree(folder / ROOT, tmp_path / ROOT)
    (tmp_path / ROOT / "PNG" / "PNG").rename(tmp_path / ROOT / "flat")
    shutil.rmtree(tmp_path / ROOT / "PNG")
    (tmp_path / ROOT / "flat").rename(tmp_path / ROOT / "PNG")
    found = source_from([NAME, "--images", str(tmp_path / ROOT), "--views", "all"]).entries()
    assert [entry.payload["path"] for entry in found] == [
        entry.payload["path"].replace("PNG/PNG/", "PNG/") for entry in entries
    ]


def test_labels_are_json_lines_in_four_states(entries: list[Entry]) -> None:
    states = {state for entry in entries for state in entry.labels.values()}
    assert states == {1, 0, -1, None}
    assert all(len(entry.labels) == 14 for entry in entries)


def test_labels_of_another_text_or_none(folder: Path, entries: list[Entry]) -> None:
    for text in ("impression", "findings"):
        found = source_of(NAME, folder, "--views", "all", "--labels", text).entries()
        assert [entry.labels for entry in found] == [entry.labels for entry in entries]
    assert not any(entry.labels for entry in source_of(NAME, folder, "--labels", "none").entries())


def test_labels_of_an_image_that_stands_in_two_lines(folder: Path, tmp_path: Path, entries: list[Entry]) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    file = next((tmp_path / "copy").rglob("report_fixed.json"))
    lines = file.read_text().splitlines()
    again = json.loads(lines[0])
    file.write_text("\n".join([*lines, lines[0]]))
    assert source_of(NAME, tmp_path / "copy", "--views", "all").entries() == entries
    again["Fracture"] = -1 if again["Fracture"] != -1 else 1
    file.write_text("\n".join([*lines, json.dumps(again)]))
    with pytest.raises(
        DataError, match=rf"report_fixed\.json line {len(lines) + 1}: its image has other labels in a line above"
    ):
        source_of(NAME, tmp_path / "copy").entries()


def test_a_report_is_made_of_its_sections_without_accession_number() -> None:
    row = EMPTY | {"section_findings": "Clear lungs.", "section_impression": "\n1. Normal chest.", "section_history": "Cough.",
                   "report": "ACCESSION NUMBER: 1234567"}  # fmt: skip
    assert report_of(row) == "HISTORY: Cough.\n\nFINDINGS: Clear lungs.\n\nIMPRESSION: 1. Normal chest."


def test_findings_that_are_nan_leave_the_impression() -> None:
    row = EMPTY | {"section_findings": "nan", "section_impression": "Normal chest.", "report": "x"}
    assert report_of(row) == "IMPRESSION: Normal chest."


def test_a_report_without_sections_is_read_whole() -> None:
    assert report_of(EMPTY | {"report": "NARRATIVE:\nClear lungs."}) == "NARRATIVE:\nClear lungs."


def test_a_summary_alone_is_a_code_and_the_report_is_read_whole() -> None:
    row = EMPTY | {"section_summary": "2-ABNORMAL, PREVIOUSLY REPORTED", "report": "IMPRESSION: Small effusion."}
    assert report_of(row) == "IMPRESSION: Small effusion."


@pytest.mark.parametrize(("column", "heading"), [("section_impression", ""), ("report", "IMPRESSION:\n")])
def test_the_accession_number_and_the_closing_words_are_not_read(column: str, heading: str) -> None:
    row = EMPTY | {"report": "", column: f"{heading}Small effusion.\n\n{CLOSING}"}
    config = ReportConfig()
    assert chosen_sentences(report_fields(report_of(row)), config.sections, config.min_words) == ["Small effusion."]


def test_ages_have_a_point_and_sexes_are_words(folder: Path, entries: list[Entry]) -> None:
    assert ",62.0," in (folder / ROOT / TABLE).read_text()
    assert {entry.extra["sex"] for entry in entries} == {"M", "F"} and 62 in {entry.extra["age"] for entry in entries}


def test_race_is_in_the_tables_words_and_left_out_where_it_is_unknown(entries: list[Entry]) -> None:
    assert {entry.extra.get("race") for entry in entries} == {"White", "Black", None}


def test_a_partial_download_beside_the_images_is_passed_over(folder: Path, entries: list[Entry]) -> None:
    assert next((folder / ROOT).rglob(".azDownload-*"), None)
    assert not any("azDownload" in entry.payload["path"] for entry in entries)


def test_broken_characters_become_blanks() -> None:
    assert (
        report_of(EMPTY | {"section_impression": "No\ufffd\ufffdeffusion.", "report": ""}) == "IMPRESSION: No effusion."
    )


def test_no_accession_number_and_no_broken_character_is_listed(entries: list[Entry]) -> None:
    reports = [entry.payload["report"] for entry in entries]
    assert not any("\ufffd" in report for report in reports)
    whole = [report for report in reports if "1234567" in report]
    assert 0 < len(whole) < len(reports) / 3, "only reports without sections are read whole"


def test_studies_are_ranked_by_the_reports_order_and_not_by_their_number(folder: Path) -> None:
    jobs = [job for unit in plan(source_of(NAME, folder), PackOptions()) for job in unit.jobs]
    ranks = {(job.entry.patient, job.entry.study.rpartition("/")[2]): job.study_rank for job in jobs}
    pairs = [patient for patient, study in ranks if study == "study2"]
    assert pairs
    assert all((ranks[patient, "study2"], ranks[patient, "study1"]) == (0, 1) for patient in pairs)


def test_graphs_that_name_no_study_are_said_not_to_be_read(
    folder: Path, tmp_path: Path, entries: list[Entry], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    root = next((tmp_path / "copy").rglob(TABLE)).parent
    with caplog.at_level(logging.INFO):
        source_of(NAME, tmp_path / "copy").entries()
        assert "radgraph" not in caplog.text
        (root / "radgraph-XL-annotations").mkdir()
        (root / "radgraph-XL-annotations" / "section_findings.json").write_text(
            '[{"0": {"text": "clear", "entities": {}}}]'
        )
        found = source_of(NAME, tmp_path / "copy", "--views", "all").entries()
    assert "radgraph-XL-annotations/ is not read: its lists name no study" in caplog.text
    assert found == entries


def test_splits_are_train_and_valid(entries: list[Entry]) -> None:
    assert {entry.split for entry in entries} == {"train", "val"}


def test_a_patient_has_the_hash_of_chexperts_own(folder: Path, tmp_path: Path) -> None:
    other = write_miniature("chexpert", tmp_path)
    ours = {job.patient for unit in plan(source_of(NAME, folder), PackOptions()) for job in unit.jobs}
    theirs = {job.patient for unit in plan(source_of("chexpert", other), PackOptions()) for job in unit.jobs}
    assert len(ours & theirs) >= 8
