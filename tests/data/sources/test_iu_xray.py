"""IU X-ray: reports in XML, names of images, views, splits, and the real reports where they are at hand."""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from msvl.config.errors import DataError
from msvl.data.images import to_eight_bit
from msvl.data.openi_reports import SECTIONS, dicom_path, read_reports
from msvl.data.phantom.miniatures.iu_xray import DICOM, PNG, PRIVATE, PROJECTIONS, REPORTS, report_xml
from msvl.data.reports import split_sections
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "iu-xray"
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "openi" / REPORTS


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("iu"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "iu")
    return tmp_path / "iu"


def words(folder: Path, images: str = PNG) -> list[str]:
    return [NAME, "--images", str(folder / images), "--reports", str(folder / REPORTS)]


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("CXR1_1_IM-0001-3001", "1/1_IM-0001-3001.dcm"),
        ("CXR10_IM-0002-1001", "10/10_IM-0002-1001.dcm"),
        ("CXR3999_IM-2049-1001-0001", "3999/3999_IM-2049-1001-0001.dcm"),
        ("CXR12_1_IM-0001-3001", "12/12_1_IM-0001-3001.dcm"),
    ],
)
def test_where_the_dicom_of_an_image_lies(image: str, path: str) -> None:
    assert dicom_path(image) == path


def test_empty_sections_are_left_out_and_the_others_keep_their_order(original: Path) -> None:
    reports = {report.number: report for report in read_reports(original / REPORTS)}
    assert list(reports["3999"].sections) == ["IMPRESSION"] and reports["3999"].images == ()
    assert any("FINDINGS" not in report.sections for report in reports.values())
    for report in reports.values():
        assert [name for name in SECTIONS if name in report.sections] == list(report.sections)
        found = {section.name: report.text[section.start : section.end] for section in split_sections(report.text)}
        assert found == {name.lower(): text for name, text in report.sections.items()}


def test_one_report_is_one_patient_and_a_report_without_images_is_not_listed(original: Path) -> None:
    found = source_of(NAME, original, "--views", "all").entries()
    assert "3999" not in {entry.patient for entry in found}
    assert all(entry.patient == entry.study and entry.image.startswith(f"CXR{entry.study}_") for entry in found)
    assert any(entry.image.count("-") == 3 for entry in found) and any("CXR1_1_" in entry.image for entry in found)


def test_views_come_from_the_table_of_projections(original: Path) -> None:
    every = source_of(NAME, original, "--views", "all").entries()
    frontal = source_of(NAME, original).entries()
    assert {entry.view for entry in every} == {"frontal", "lateral"} and {e.view for e in frontal} == {"frontal"}
    assert len(every) == 2 * len(frontal)


def test_without_projections_no_view_is_known_and_it_says_so(original: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = source_from(words(original)).entries()
    assert "without --projections no view is known" in caplog.text
    dicom = source_from(words(original, DICOM))
    records = [dicom.record(entry) for entry in dicom.entries()]
    assert {entry.view for entry in found} == {record.view for record in records} == {"unknown"}, "PA in each header"


def test_dates_of_birth_and_reasons_in_headers_are_not_read(original: Path) -> None:
    file = next((original / DICOM).rglob("*.dcm"))
    assert all(str(pydicom.dcmread(file)[name].value) == value for name, value in PRIVATE.items())
    source = source_from(words(original, DICOM))
    for entry in source.entries():
        read = repr((entry, source.record(entry)))
        assert not any(value in read for value in PRIVATE.values())
        assert set(source.record(entry).extra) == {"mesh"}
    assert "must not be passed on" in source.licence


def test_dicom_and_png_show_the_same_chest(original: Path) -> None:
    png, dicom = source_from(words(original)), source_from(words(original, DICOM))
    for one, other in zip(png.entries(), dicom.entries(), strict=True):
        assert one.image == other.image
        shown = to_eight_bit(dicom.record(other).image).astype(float)
        drawn = png.record(one).image.astype(float)
        assert drawn.ndim == 2 and np.corrcoef(shown.ravel(), drawn.ravel())[0, 1] > 0.999, one.where


def test_terms_and_the_label_normal(original: Path) -> None:
    source = source_of(NAME, original)
    records = [source.record(entry) for entry in source.entries()]
    assert {record.labels["normal"] for record in records} == {0, 1}
    for record in records:
        assert (record.extra["mesh"] == ["normal"]) == (record.labels["normal"] == 1)
    terms = {term for record in records for term in record.extra["mesh"]}
    assert "Technical Quality of Image Unsatisfactory" in terms, "it has a blank at its end"
    assert "lung" not in terms, "a program gave that"


def test_a_report_has_any_number_of_images(tmp_path: Path) -> None:
    for number in range(6):
        images = [f"CXR{number}_IM-0001-{place}001" for place in range(number)]
        (tmp_path / f"{number}.xml").write_text(report_xml(number, {"IMPRESSION": "Normal chest."}, [], images))
    assert [len(report.images) for report in read_reports(tmp_path)] == list(range(6))


def test_the_archive_and_the_folder_list_the_same(original: Path, tmp_path: Path) -> None:
    with tarfile.open(original / REPORTS) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked, packed = (
        [replace(report, where="") for report in read_reports(place)] for place in (tmp_path, original / REPORTS)
    )
    assert unpacked == packed


def test_the_split_of_r2gen(original: Path, tmp_path: Path) -> None:
    lists = {"train": [{"id": "CXR1_1_IM-0001"}], "val": [{"id": "CXR3_IM-0003"}], "test": [{"id": "CXR5_IM-0005"}]}
    (tmp_path / "annotation.json").write_text(json.dumps(lists))
    found = source_from([*words(original), "--split-file", str(tmp_path / "annotation.json")]).entries()
    assert {entry.patient for entry in found if entry.split == "val"} == {"3"}
    assert {entry.patient for entry in found if entry.split == "test"} == {"5"}
    assert {entry.split for entry in found} == {"train", "val", "test"}
    assert {entry.split for entry in source_from(words(original)).entries()} == {None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": [], "val": []}, "expected the lists train, val and test"),
        ({"train": [{"id": "1"}], "val": [], "test": []}, "id number 1 does not begin with a report"),
        (
            {"train": [{"id": "CXR1_a"}], "val": [{"id": "CXR1_b"}], "test": []},
            "the report of id number 2 is in another split too",
        ),
    ],
)
def test_faults_of_the_split_file(original: Path, tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        source_from([*words(original), "--split-file", str(tmp_path / "a.json")]).entries()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<eCitation><uId", r"report file 1 is no whole XML"),
        ("<html></html>", r"report file 1 is no report of Open-i: expected eCitation"),
        (report_xml(1, {}, [], []).replace('Label="FINDINGS"', 'Label="X"'), "AbstractText of COMPARISON, INDICATION"),
    ],
)
def test_faults_of_the_xml(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "1.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_reports(tmp_path))


def test_faults_of_places(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        list(read_reports(tmp_path / "none"))
    with pytest.raises(DataError, match=r"has no XML file: give NLMCXR_reports\.tgz"):
        list(read_reports(folder / PNG))
    (tmp_path / "cut.tgz").write_bytes((folder / REPORTS).read_bytes()[:900])
    with pytest.raises(DataError, match=r"is no whole tar archive: download NLMCXR_reports\.tgz again"):
        list(read_reports(tmp_path / "cut.tgz"))
    (tmp_path / "a").mkdir()
    for name in ("1.xml", "2.xml"):
        (tmp_path / "a" / name).write_text(report_xml(1, {}, [], []))
    with pytest.raises(DataError, match="are the same report: keep one copy"):
        list(read_reports(tmp_path / "a"))
    table = (folder / PROJECTIONS).read_text()
    other = table.splitlines()[1].replace("Frontal", "Lateral")
    (folder / PROJECTIONS).write_text(f"{table}{other}\n")
    with pytest.raises(DataError, match=r"indiana_projections\.csv row \d+: its image has the other projection above"):
        source_of(NAME, folder).entries()
    (folder / PROJECTIONS).write_text(table)
    replace_in(folder / PROJECTIONS, "Lateral", "Oblique")
    with pytest.raises(
        DataError, match=r"indiana_projections\.csv row 3: projection a text of 7 characters; expected Frontal"
    ):
        source_of(NAME, folder).entries()
    with pytest.raises(DataError, match="--images .*none: there is no such folder"):
        source_from(words(folder, "none"))


@pytest.mark.evidence("The sections of all 3,955 real Open-i reports are those counted beforehand", how="cpu")
def test_the_real_reports() -> None:
    if not REAL.is_file():
        pytest.skip(f"the real Open-i reports are not at hand ({REAL.name} in shared/data/openi)")
    reports = list(read_reports(REAL))
    counts = {name: sum(name in report.sections for report in reports) for name in SECTIONS}
    assert len(reports) == 3955
    assert counts == {"COMPARISON": 3333, "INDICATION": 3865, "FINDINGS": 3425, "IMPRESSION": 3921}
    images = [image for report in reports for image in report.images]
    assert len(images) == len(set(images)) == 7470
    assert len({dicom_path(image) for image in images}) == 7470
    neither = sum(not {"FINDINGS", "IMPRESSION"} & set(report.sections) for report in reports)
    assert (neither, sum(not report.images for report in reports)) == (28, 104)
    assert sum(report.terms == ("normal",) for report in reports) == 1391
