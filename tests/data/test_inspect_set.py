"""What `msvl data inspect` says of a set, against counts by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.data.inspect_set import describe, render
from msvl.data.pack import pack
from msvl.data.packed import PackedSet
from msvl.data.study import Entry, Record
from tests.helpers.object_server import serve_objects
from tests.helpers.packed_sets import OPTIONS, StudySource, serve_set


class RepeatingSource(StudySource):
    """Of 80 studies (three images and one by turns), every fourth has the same text; the single images are all equal."""

    def record(self, entry: Entry) -> Record:
        number = entry.payload
        record = super().record(replace(entry, payload=3 if number % 4 == 3 else number))
        stock = "FINDINGS: The lungs are clear.\nIMPRESSION: Normal chest."
        long = f"FINDINGS: The heart is number {number // 4} in size. " + "No effusion is seen today. " * 9
        return replace(
            record, report=stock if number % 8 == 7 else long + ("To the left." if number % 4 == 3 else "To the right.")
        )


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "repeating"
    pack(RepeatingSource(80), out, replace(OPTIONS, val_share=0.0, test_share=0.0), workers=1, progress=False)
    return out


def test_figures_are_those_counted_by_hand(repeating: Path) -> None:
    found = describe(repeating)
    part = found["splits"]["train"]
    assert (part["samples"], part["studies"], part["patients"], part["unreadable"]) == (160, 80, 40, 0)
    assert part["shared_text"] == pytest.approx(20 / 80)
    assert part["shared_image"] == pytest.approx(40 / 160)
    assert part["shared_study"] == pytest.approx(120 / 160)
    assert part["words"]["0-9"] == 20 and part["words"]["40-59"] == 140
    assert part["short_side"] == {**dict.fromkeys(part["short_side"], 0), "0-127": 160}
    assert sum(part["labels"]["effusion"].values()) == 160
    text = render(found)
    assert "studies whose text another has too 25.0%, images that are there twice 25.0%" in text
    assert "40-59 words" in text and "0-127 px" in text


def test_the_pictures_show_the_images_and_both_histograms(repeating: Path) -> None:
    found = describe(repeating)
    sheet = cv2.imread(found["contact_sheet"], cv2.IMREAD_UNCHANGED)
    assert sheet.shape == (3 * 160, 8 * 160)
    assert all(tile.std() > 1 for row in np.vsplit(sheet, 3) for tile in np.hsplit(row, 8))
    assert cv2.imread(found["histograms"]).shape[1] == 1200


def test_a_sample_of_a_large_set_is_read_and_said(repeating: Path) -> None:
    found = describe(repeating, samples=50)
    assert sum(found["splits"]["train"]["words"].values()) == 50
    assert "of 50 samples" in render(found)
    assert found["splits"]["train"]["shared_text"] == pytest.approx(0.25), "equal texts are counted in all"


def test_unreadable_samples_are_counted(repeating: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    subprocess.run(["cp", "-r", str(repeating), str(copy)], check=True)
    index = PackedSet.open(copy).split("train")
    with open(index.shard_path(0), "r+b") as stream:
        stream.seek(int(index.records["offset"][0].min()))
        stream.write(bytes(40))
    found = describe(copy)
    assert found["splits"]["train"]["unreadable"] == 1
    assert "1 cannot be read: see `msvl data verify" in render(found)


def test_a_set_elsewhere_is_described_into_a_folder(
    repeating: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serve_objects() as server:
        found = describe(serve_set(repeating, server), tmp_path, samples=5)
    assert found["contact_sheet"] == str(tmp_path / "contact-sheet.png") and Path(found["histograms"]).is_file()


def test_commands_print_json_and_end_with_1_for_damage(repeating: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    subprocess.run(["cp", "-r", str(repeating), str(copy)], check=True)
    words = [sys.executable, "-m", "msvl.cli", "data"]
    done = subprocess.run([*words, "inspect", str(copy), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["splits"]["train"]["samples"] == 160
    sound = subprocess.run([*words, "verify", str(copy)], capture_output=True, text=True)
    assert (sound.returncode, sound.stdout) == (0, f"{copy} is sound\n")
    shard = PackedSet.open(copy).split("train").shard_path(0)
    shard.write_bytes(shard.read_bytes()[:1000])
    done = subprocess.run([*words, "verify", str(copy), "--json"], capture_output=True, text=True)
    faults = json.loads(done.stdout)
    assert done.returncode == 1 and faults[0]["shard"] == str(shard) and faults[0]["key"] == ""
    assert "Traceback" not in done.stderr
