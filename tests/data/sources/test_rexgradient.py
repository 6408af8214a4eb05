"""ReXGradient-160K: its layout and every known oddity of it."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from msvl.data.phantom.miniatures.rexgradient import ROOT
from msvl.data.study import Entry
from tests.helpers.miniatures import source_from, source_of, write_miniature

NAME = "rexgradient"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("rexgradient"))


@pytest.fixture(scope="module")
def everything(folder: Path) -> list[Entry]:
    return source_of(NAME, folder, "--views", "all").entries()


def test_one_entry_per_image_with_the_files_split(folder: Path, everything: list[Entry]) -> None:
    listed = {}
    for name, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        content = json.loads(
            (folder / ROOT / "download" / "metadata" / f"{name}_metadata_view_position.json").read_text()
        )
        listed[split] = sum(len(study["ImagePath"]) for study in content.values())
    assert Counter(entry.split for entry in everything) == listed
    assert all((folder / ROOT / entry.payload["path"]).is_file() for entry in everything)


def test_views_are_grouped_and_a_missing_one_is_unknown(folder: Path, everything: list[Entry]) -> None:
    assert {entry.view for entry in everything} == {"PA", "AP", "LATERAL", "unknown"}
    frontal = source_of(NAME, folder).entries()
    assert {entry.view for entry in frontal} == {"PA", "AP"} and len(frontal) < len(everything)


def test_images_of_a_study_share_its_report_and_texts_that_say_nothing_are_left_out(everything: list[Entry]) -> None:
    by_study: dict[str, set[str]] = {}
    for entry in everything:
        by_study.setdefault(entry.study, set()).add(entry.payload["report"])
    assert all(len(reports) == 1 for reports in by_study.values())
    reports = [report for own in by_study.values() for report in own]
    assert all("FINDINGS: " in report and "IMPRESSION: " in report for report in reports)
    assert not any("None" in report or "nan" in report.lower().split() for report in reports)
    assert any(report.startswith("INDICATION: Cough.") for report in reports)
    assert any("COMPARISON: Prior radiograph." in report for report in reports)


def test_findings_and_impressions_that_say_nothing_are_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / ROOT / "download" / "metadata" / "train_metadata_view_position.json"
    content = json.loads(path.read_text())
    silent = ("", "None", float("nan"), None)
    for study, text in zip(content.values(), silent, strict=False):
        study["Findings"] = text
    path.write_text(json.dumps(content))
    found = {entry.study: entry.payload["report"] for entry in source_of(NAME, tmp_path / "copy").entries()}
    for key in list(content)[: len(silent)]:
        assert "FINDINGS" not in found[key] and "IMPRESSION: " in found[key]


@pytest.mark.parametrize(
    ("view", "group"),
    [("LL", "lateral"), ("LAO", "other"), ("RAO", "other"), ("UNKNOWN", "unknown"), ("", "unknown")],
)
def test_rarer_views(folder: Path, tmp_path: Path, view: str, group: str) -> None:
    shutil.copytree(folder / ROOT / "download" / "metadata", tmp_path / "metadata")
    (tmp_path / "deid_png").symlink_to(folder / ROOT / "deid_png")
    path = tmp_path / "metadata" / "train_metadata_view_position.json"
    content = json.loads(path.read_text())
    key, study = next(iter(content.items()))
    study["ImageViewPosition"][0] = view
    path.write_text(json.dumps(content))
    image = Path(study["ImagePath"][0]).stem
    found = source_from([NAME, "--images", str(tmp_path), "--views", group]).entries()
    assert image in {entry.image for entry in found if entry.study == key}


def test_ages_in_years_and_days(everything: list[Entry]) -> None:
    ages = {entry.extra["age"] for entry in everything}
    assert 0.01 in ages and max(ages) > 20
    assert {entry.extra["sex"] for entry in everything} == {"M", "F"}


def test_the_metadata_may_lie_in_a_folder_of_its_own(folder: Path, tmp_path: Path, everything: list[Entry]) -> None:
    for below in ("metadata", "."):
        root = tmp_path / f"at-{below}"
        root.mkdir()
        (root / "deid_png").symlink_to(folder / ROOT / "deid_png")
        shutil.copytree(folder / ROOT / "download" / "metadata", root / below, dirs_exist_ok=True)
        found = source_from([NAME, "--images", str(root), "--views", "all"]).entries()
        assert [entry.image for entry in found] == [entry.image for entry in everything]


def test_the_boxes_of_interstitial_patterns_are_said_not_to_be_read(
    folder: Path, tmp_path: Path, everything: list[Entry], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder / ROOT / "download" / "metadata", tmp_path / "metadata")
    (tmp_path / "deid_png").symlink_to(folder / ROOT / "deid_png")
    words = [NAME, "--images", str(tmp_path), "--views", "all"]
    with caplog.at_level(logging.INFO):
        source_from(words).entries()
        assert "interstitial" not in caplog.text
        (tmp_path / "metadata" / "interstitial_pattern_bbox.json").write_text('{"a": [[1, 2, 3, 4]]}')
        found = source_from(words).entries()
    assert "interstitial_pattern_bbox.json is not read: the set is packed without boxes" in caplog.text
    assert found == everything


def test_the_ten_pieces_unpack_to_the_images(folder: Path, tmp_path: Path) -> None:
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed")
    pieces = sorted((folder / ROOT / "download").glob("deid_png.part*"))
    assert len(pieces) == 10
    subprocess.run(["sh", "-c", f"cat {' '.join(map(str, pieces))} | tar --zstd -x -C {tmp_path}"], check=True)
    whole = {path.relative_to(folder / ROOT): path.read_bytes() for path in (folder / ROOT / "deid_png").rglob("*.png")}
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.png")} == whole
