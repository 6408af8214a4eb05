"""Every official data set, from its miniature to a trained step: packed, inspected, verified, trained on."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from msvl.cli import main
from msvl.data.packed import PackedSet
from msvl.data.phantom.miniatures import MINIATURES
from msvl.data.phantom.miniatures.nih_chestxray14 import RELABELLED
from msvl.data.reader import SampleReader
from msvl.data.sources import SOURCES
from msvl.monitoring.writers import read_metrics
from tests.helpers.miniatures import source_from
from tests.helpers.runs import execute, tiny_config

OFFICIAL = [name for name in SOURCES if name not in ("phantom", "table")]


def test_every_official_source_has_a_miniature() -> None:
    assert set(MINIATURES) == set(OFFICIAL)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("name", "words_of"), [*((name, "pack_words") for name in OFFICIAL), ("siim-acr", "png_words")]
)
@pytest.mark.evidence(
    "The miniature of every official data set is packed, inspected, verified and trained on", how="cpu"
)
def test_from_the_official_layout_to_two_steps(
    name: str, words_of: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = miniature(name, words_of, tmp_path), tmp_path / "shards"
    made = [] if source_from(source).has_reports else ["--reports-from-labels"]
    figures = packed_inspected_and_verified(source, out, capsys, "--train-tokenizer", "300", *made)
    assert figures["train"]["samples"] >= 8
    config = tiny_config(
        tmp_path / "config.yaml", data=out, runs=tmp_path / "runs", name="two", train={"steps": 2, "save_every": 2}
    )
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config)])
    assert done.code == 0, done.output[-3000:]
    losses = [
        row["loss/total"] for row in read_metrics(tmp_path / "runs" / "two" / "metrics.jsonl") if "loss/total" in row
    ]
    assert len(losses) == 2 and all(0 < loss < 100 for loss in losses)


def test_a_set_for_judging_has_val_and_test_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = miniature("nih-chestxray14", "relabelled_words", tmp_path)
    figures = packed_inspected_and_verified(source, tmp_path / "shards", capsys)
    assert {split for split, own in figures.items() if own["samples"]} == {"val", "test"}
    reader = SampleReader(PackedSet.open(tmp_path / "shards").split("test"))
    assert all(set(reader.meta(row)["labels"]) == set(RELABELLED) for row in range(len(reader.index)))


def miniature(name: str, words_of: str, folder: Path) -> list[str]:
    """Write a miniature by the command; return the arguments that pack it."""
    assert main(["data", "miniature", name, str(folder / "source"), "--train", "40", "--size", "64"]) == 0
    words: list[str] = getattr(importlib.import_module(MINIATURES[name]), words_of)(folder / "source")
    return words


def packed_inspected_and_verified(
    source: list[str], out: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> dict[str, dict]:
    """Do so by the commands; return what `inspect` says of each split."""
    options = ["--short-side", "48", "--workers", "1", "--id-key", "k", *words]
    assert main(["data", "pack", *source, "--out", str(out), *options]) == 0
    assert main(["data", "inspect", str(out), "--json"]) == 0
    told = capsys.readouterr().out
    splits: dict[str, dict] = json.loads(told[told.index("\n{") :])["splits"]
    packed = PackedSet.open(out)
    assert sum(packed.manifest["dropped"].values()) == 0, packed.manifest["dropped"]
    assert main(["data", "verify", str(out)]) == 0
    assert not packed.shareable and packed.manifest["source"]["name"] == source[0]
    for split, own in splits.items():
        reader = SampleReader(packed.split(split))
        assert own["samples"] == packed.counts(split)["samples"] == len(reader.index)
        assert all(reader.meta(row)["view"] not in ("", "lateral", "LATERAL") for row in range(len(reader.index)))
    return splits
