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
from msvl.data.reader import SampleReader
from msvl.data.sources import SOURCES
from msvl.monitoring.writers import read_metrics
from tests.helpers.miniatures import source_from
from tests.helpers.runs import execute, tiny_config

OFFICIAL = [name for name in SOURCES if name not in ("phantom", "table")]


def test_every_official_source_has_a_miniature() -> None:
    assert set(MINIATURES) == set(OFFICIAL)


@pytest.mark.ranks
@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.evidence(
    "The miniature of every official data set is packed, inspected, verified and trained on", how="cpu"
)
def test_from_the_official_layout_to_two_steps(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "source", tmp_path / "shards"
    assert main(["data", "miniature", name, str(folder), "--train", "40", "--size", "64"]) == 0
    source = importlib.import_module(MINIATURES[name]).pack_words(folder)
    made = [] if source_from(source).has_reports else ["--reports-from-labels"]
    options = ["--short-side", "48", "--workers", "1", "--id-key", "k", "--train-tokenizer", "300", *made]
    assert main(["data", "pack", *source, "--out", str(out), *options]) == 0
    assert main(["data", "inspect", str(out), "--json"]) == 0
    told = capsys.readouterr().out
    figures = json.loads(told[told.index("\n{") :])
    packed = PackedSet.open(out)
    assert figures["splits"]["train"]["samples"] == packed.counts("train")["samples"] >= 8
    assert sum(packed.manifest["dropped"].values()) == 0, packed.manifest["dropped"]
    assert main(["data", "verify", str(out)]) == 0
    assert not packed.shareable and packed.manifest["source"]["name"] == name
    reader = SampleReader(packed.split("train"))
    assert all(reader.meta(row)["view"] not in ("", "lateral", "LATERAL") for row in range(len(reader.index)))
    config = tiny_config(
        tmp_path / "config.yaml", data=out, runs=tmp_path / "runs", name="two", train={"steps": 2, "save_every": 2}
    )
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config)])
    assert done.code == 0, done.output[-3000:]
    losses = [
        row["loss/total"] for row in read_metrics(tmp_path / "runs" / "two" / "metrics.jsonl") if "loss/total" in row
    ]
    assert len(losses) == 2 and all(0 < loss < 100 for loss in losses)
