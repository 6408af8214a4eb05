"""MIMIC-CXR as DICOM: the tables of MIMIC-CXR-JPG, reports beside the folders of studies, compressed files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from msvl.config.errors import DataError
from msvl.data.images import to_eight_bit
from msvl.data.phantom.miniatures.material import draw_studies
from msvl.data.phantom.miniatures.mimic_cxr_jpg import JPG, REPORTS, dicom_id
from tests.helpers.miniatures import source_from, source_of, write_miniature

NAME = "mimic-cxr"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("mimic"))


def test_entries_are_those_of_mimic_cxr_jpg(original: Path) -> None:
    jpg = source_from(["mimic-cxr-jpg", "--images", str(original / JPG)])
    dicom = source_of(NAME, original)
    assert dicom.id_space == jpg.id_space and dicom.has_reports
    for one, other in zip(jpg.entries(), dicom.entries(), strict=True):
        assert (one.patient, one.study, one.image, one.split, one.view, one.labels, one.order) == (
            other.patient, other.study, other.image, other.split, other.view, other.labels, other.order,
        )  # fmt: skip


def test_every_form_of_pixels_shows_the_same_chest(original: Path) -> None:
    source = source_of(NAME, original)
    studies = {dicom_id(study, "PA"): study for study in draw_studies(train=8, val=2, test=2, size=64)}
    for entry in source.entries():
        record = source.record(entry)
        shown = to_eight_bit(record.image).astype(float)
        assert np.corrcoef(shown.ravel(), studies[entry.image].frontal.ravel())[0, 1] > 0.99, entry.where
        assert record.report.strip() and record.extra["sex"] in "MF"
    files = [path for path in (original / REPORTS / "files").rglob("*.dcm*")]
    assert {path.suffix for path in files} == {".dcm", ".gz"}
    headers = [pydicom.dcmread(path) for path in files if path.suffix == ".dcm"]
    assert {header.PhotometricInterpretation for header in headers} == {"MONOCHROME1", "MONOCHROME2"}


def test_the_window_of_the_file_can_be_left_out(original: Path) -> None:
    shown, bare = source_of(NAME, original), source_of(NAME, original, "--window", "0")
    entry = shown.entries()[0]
    assert not np.array_equal(shown.record(entry).image, bare.record(entry).image)
    assert bare.record(entry).image.max() <= 4095
    assert shown.settings() != bare.settings()


def test_a_report_stands_beside_the_folder_of_its_study_and_one_that_is_not_utf8_is_named(
    original: Path, tmp_path: Path
) -> None:
    shutil.copytree(original, tmp_path / "copy")
    source = source_of(NAME, tmp_path / "copy")
    entry = source.entries()[0]
    (path,) = (tmp_path / "copy" / REPORTS / "mimic-cxr-reports").rglob(f"s{entry.study}.txt")
    assert path.parent.name == f"p{entry.patient}"
    assert all(line.startswith(" ") for line in path.read_text().splitlines() if line)
    path.write_bytes(path.read_bytes().replace(b"a", b"\xe4"))
    with pytest.raises(DataError, match=r"metadata\.csv\.gz row 2: its report is not UTF-8: convert it, or unpack"):
        source.record(entry)
    path.unlink()
    with pytest.raises(DataError, match=r"metadata\.csv\.gz row 2: its report cannot be read \(No such file"):
        source.record(entry)


def test_tables_are_enough_of_mimic_cxr_jpg(original: Path, tmp_path: Path) -> None:
    for table in (original / JPG).glob("*.csv*"):
        shutil.copy(table, tmp_path)
    root = original / REPORTS
    words = [NAME, "--images", str(root), "--reports", str(root / "mimic-cxr-reports"), "--tables", str(tmp_path)]
    assert len(source_from(words).entries()) == len(source_of(NAME, original).entries())


def test_faults_are_named(original: Path, tmp_path: Path) -> None:
    root = original / REPORTS
    reports = ["--reports", str(root / "mimic-cxr-reports")]
    with pytest.raises(
        DataError, match=r"has no folder files/: name the folder of the version, such as mimic-cxr/2\.1\.0"
    ):
        source_from([NAME, "--images", str(tmp_path), *reports, "--tables", str(original / JPG)])
    with pytest.raises(DataError, match=r"has no mimic-cxr-2\.0\.0-split\.csv\.gz: download it from PhysioNet"):
        source_from([NAME, "--images", str(root), *reports, "--tables", str(tmp_path)]).entries()
    shutil.copytree(original, tmp_path / "copy")
    source = source_of(NAME, tmp_path / "copy")
    entry = source.entries()[0]
    for path in (tmp_path / "copy" / REPORTS / "files").rglob(f"{entry.image}.dcm*"):
        path.unlink()
    with pytest.raises(DataError, match=r"metadata\.csv\.gz row 2: there is no such image file"):
        source.record(entry)
