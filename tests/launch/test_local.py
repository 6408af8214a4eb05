"""--local: the launchers' work on this machine, where there is no Slurm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from msvl.monitoring.wandb_file import _records
from tests.helpers.runs import Finished, execute, tiny_config
from tests.integration.conftest import tiny_set  # noqa: F401 - the same fixture


def typed(*words: str, **environment: str) -> Finished:
    return execute([sys.executable, "-m", *words], environment=environment)


def groups(folder: Path) -> set[str]:
    """Return the W&B groups of the runs that were mirrored into a folder."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    records = [
        Record.FromString(content) for path in folder.rglob("run-*.wandb") for _, content in _records(path.read_bytes())
    ]
    return {record.run.run_group for record in records if record.HasField("run")}


@pytest.mark.ranks
@pytest.mark.evidence(
    "A sweep, its judgement and its table on one machine without Slurm; its runs are a group on W&B", how="gloo"
)
def test_a_sweep_on_this_machine(tiny_set: Path, tmp_path: Path) -> None:  # noqa: F811
    base = tiny_config(
        tmp_path / "base.yaml",
        data=tiny_set,
        runs=tmp_path / "runs",
        name="base",
        train={"steps": 1},
        wandb={"enabled": True},
    )
    plan = tmp_path / "plan.yaml"
    quick = {"tasks": ["retrieval"], "options": {"resamples": [0]}}
    plan.write_text(yaml.safe_dump({"cells": [quick, quick | {"protocol": "clean"}]}))
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        yaml.safe_dump(
            {"name": "of-seeds", "base": str(base), "list": {"only": {"train.seed": 1}}, "evaluate": str(plan)}
        )
    )
    done = typed("launch.sweep", "start", str(sweep), "--local", WANDB_MODE="offline")
    assert done.code == 0, done.output[-3000:]
    (result,) = json.loads((tmp_path / "runs" / "of-seeds" / "summary.json").read_text())
    assert (result["state"], result["step"]) == ("done", 1)
    assert "retrieval.report_r5 (own, resamples=0, seed 0)" in result["figures"]
    assert "retrieval.report_r5 (own, protocol=clean resamples=0, seed 0)" in result["figures"]
    assert groups(tmp_path / "runs" / "of-seeds" / "only" / "wandb") == {"of-seeds"}
    again = typed("launch.evaluate", str(tmp_path / "runs" / "of-seeds" / "only"), "--plan", str(plan), "--local")
    assert again.code == 0, again.output
    assert "2 done, 0 failed, 0 waiting of 2 cells" in again.output


@pytest.mark.ranks
def test_training_and_its_judgement_on_this_machine(tiny_set: Path, tmp_path: Path) -> None:  # noqa: F811
    config = tiny_config(tmp_path / "c.yaml", data=tiny_set, runs=tmp_path, name="r")
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({"cells": [{"tasks": ["retrieval"], "options": {"resamples": [0]}}]}))
    done = typed("launch.pretrain", str(config), "train.steps=1", "--local", "--evaluate", str(plan))
    assert done.code == 0, done.output[-3000:]
    assert "r: 1 of 1 cells judged" in (tmp_path / "r" / "evaluation" / "table.md").read_text()


def test_packing_in_parts_on_this_machine(tmp_path: Path) -> None:
    source = ("phantom", "--train", "6", "--val", "2", "--test", "2", "--size", "64")
    done = typed("launch.pack", "--local", "--parts", "2", "--cpus", "1", *source, "--out", str(tmp_path / "parts"))
    assert done.code == 0, done.output
    whole = typed("msvl.cli", "data", "pack", *source, "--out", str(tmp_path / "whole"), "--workers", "1")
    assert whole.code == 0, whole.output
    for shard in (tmp_path / "whole").rglob("*.tar"):
        assert (tmp_path / "parts" / shard.relative_to(tmp_path / "whole")).read_bytes() == shard.read_bytes()


def test_a_cluster_command_without_slurm_says_so(tmp_path: Path) -> None:
    env = tmp_path / "cluster.env"
    env.write_text(f"PARTITION=gpu\nGPUS_PER_NODE=8\nPYTHON={sys.executable}\n")
    words = ["-m", "launch.pack", "--cluster", str(env), "--parts", "2", "phantom", "--out", str(tmp_path / "a")]
    done = execute([sys.executable, *words], environment={"PATH": "/nowhere"})
    assert done.code == 2
    assert "there is no Slurm here: type this on a login node" in done.output
