"""Official data sets that are cut from one another, packed by their own importers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from msvl.data.phantom.miniatures import MINIATURES
from msvl.data.sources import SOURCES
from tests.helpers.miniatures import write_miniature
from tests.helpers.runs import execute

MSVL = [sys.executable, "-m", "msvl.cli", "data"]


def pack(name: str, folder: Path, *words: str) -> Path:
    """Write a miniature and pack it with its key table; return the set."""
    import importlib

    write_miniature(name, folder / "source")
    source_words = importlib.import_module(MINIATURES[name]).pack_words(folder / "source")
    done = execute(
        [*MSVL, "pack", *source_words, "--out", str(folder / "set"), "--key-table", str(folder / "keys.csv"), "--max-dropped",
         "0.9", *words]
    )  # fmt: skip
    assert done.code == 0, done.output
    return folder / "set"


def leaks(*paths: Path) -> dict:
    done = execute([*MSVL, "leaks", *map(str, paths), "--json"])
    told = json.loads(done.output[done.output.index("{\n") :])
    assert done.code == int(told["leak"]), done.output
    return next(item for item in told["comparisons"] if item["first"]["split"] is None) | {"notes": told["notes"]}


@pytest.mark.evidence("MS-CXR is found in MIMIC-CXR-JPG, RSNA and SIIM in NIH ChestX-ray14, on miniatures", how="cpu")
def test_ms_cxr_is_in_mimic(tmp_path: Path) -> None:
    assert "mimic-cxr-jpg" in SOURCES
    mimic, boxes = pack("mimic-cxr-jpg", tmp_path / "mimic"), pack("ms-cxr", tmp_path / "ms")
    found = leaks(mimic, boxes)
    assert found["patients"] and found["images"] + found["near"] == found["images_of_second"] == found["reached"]
    keyed = pack("ms-cxr", tmp_path / "keyed", "--id-key", "secret")
    found = leaks(mimic, keyed)
    assert found["patients"] is None and found["reached"] == found["images_of_second"]
    assert any("--id-key" in note for note in found["notes"])
    by_table = leaks(tmp_path / "mimic" / "keys.csv", tmp_path / "keyed" / "keys.csv")
    assert by_table["patients"] and by_table["images"] == by_table["images_of_second"]
