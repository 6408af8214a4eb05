"""The ledger of a real run on two ranks, with a bad record, against the digests of what it trained on; then forgetting."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from msvl.data.identity import stable_id
from msvl.data.ledger import Ledger
from msvl.data.packed import PackedSet
from tests.helpers.runs import execute, losses, tiny_config

MSVL = [sys.executable, "-m", "msvl.cli"]


@pytest.mark.ranks
@pytest.mark.evidence(
    "The ledger of a training run on two ranks, made from its folder, has the samples of every step, substitutes included; "
    "after `forget` the run's checkpoint is named and its resume refused",
    how="gloo",
)
def test_ledger_of_a_training_run_and_forgetting(tiny_set: Path, tmp_path: Path) -> None:
    packed = shutil.copytree(tiny_set, tmp_path / "set")
    index = PackedSet.open(packed).split("train")
    with open(index.shard_path(0), "r+b") as shard:
        shard.seek(int(index.records["offset"][0, 0]))
        shard.write(b"xxx")
    config = tiny_config(tmp_path / "run.yaml", data=packed, runs=tmp_path / "runs", name="r", train={"steps": 8})
    finished = execute([*MSVL, "train", str(config), "--ranks", "2", "data.lanes=4"])
    assert finished.code == 0, finished.output[-3000:]
    run = tmp_path / "runs" / "r"
    ledger = Ledger(run)
    assert {fill.faults[0].key for fill in ledger.fills.values()} == {index.key(0)}
    seen = set()
    for step, _, digest in losses(run):
        keys = [entry.key for entry in ledger.batch(step)]
        assert sum(map(stable_id, keys)) & (2**63 - 1) == digest
        seen |= set(keys)
    state = json.loads((run / "checkpoints" / "step-00000008" / "state.json").read_text())["data"]
    assert (state["lanes"], state["images"], state["fills"]["lost_samples"]) == (4, "one_per_study", 1)

    told = execute([*MSVL, "data", "forget", str(packed), sorted(seen)[0], "--runs", str(tmp_path / "runs")])
    assert told.code == 0, told.output
    assert f"{run / 'checkpoints' / 'step-00000008'} saw them, in " in told.output
    refused = execute([*MSVL, "train", str(run / "config.yaml"), "--ranks", "2", "--resume", "train.steps=9"])
    assert refused.code == 2, refused.output[-3000:]
    assert "has another manifest than when this run began" in refused.output
    assert "begin a new run with another run.name" in refused.output


def test_ranks_that_do_not_fit_the_lanes_are_refused_before_anything_starts(tiny_set: Path, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", train={"global_batch": 12})
    done = execute([*MSVL, "train", str(config), "--ranks", "3"])
    assert done.code == 2
    assert "msvl: 3 ranks do not fit data.lanes=64" in done.output
    assert "Use 2 or 4 ranks, or begin a new run with data.lanes=63 or 66" in done.output
    assert not (tmp_path / "r").exists()
