"""One W&B run over kills and resumes: every step is one row of it, without gaps or doubles, read from the offline files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import wandb

from msvl.monitoring.wandb_file import history
from msvl.monitoring.writers import read_metrics
from tests.helpers.runs import execute, tiny_config

SCRIPT = [sys.executable, str(Path("tests") / "helpers" / "killed_train.py")]
STEPS, SAVE_EVERY, JUDGE_EVERY = 130, 50, 25
KILLED_AT = (95, 10)
"""Forward pass of an attempt in which it is killed; W&B holds the last 30 rows or so in memory then."""


@pytest.mark.evidence(
    "A run killed twice and resumed is one W&B run that has every step and judgement once, with the values of metrics.jsonl",
    how="cpu",
)
def test_every_step_is_one_row(tiny_set: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", wandb={"enabled": True},
        train={"steps": STEPS, "save_every": SAVE_EVERY, "background_saves": False}, validation={"every": JUDGE_EVERY, "samples": 4},
    )  # fmt: skip
    wandb.setup()  # as in a notebook or an agent: a parent with a service of its own, which outlives the killed attempts
    assert "WANDB_SERVICE" in os.environ
    run, offline = tmp_path / "r", {"WANDB_MODE": "offline"}
    for number, forward in enumerate(KILLED_AT):
        trace = tmp_path / f"trace-{number}"
        plan = {"KILL_AT": json.dumps({"where": "forward", "rank": 0, "number": forward}), "KILL_TRACE": str(trace)}
        dead = execute([*SCRIPT, "--config", str(config), "--resume"], environment=offline | plan)
        assert trace.is_file() and dead.code != 0, dead.output[-3000:]
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config), "--resume"], environment=offline)
    assert done.code == 0, done.output[-3000:]
    files = sorted((run / "wandb").rglob("run-*.wandb"))
    assert {path.name for path in files} == {f"run-{(run / 'wandb' / 'run-id').read_text()}.wandb"}
    parts = [history(path) for path in files]
    assert len(parts) == len(KILLED_AT) + 1
    assert SAVE_EVERY < parts[0][-1]["step"] < KILLED_AT[0] - 1, "rows beyond the checkpoint, and rows lost by the kill"
    rows = [row for part in parts for row in part]
    assert [row["step"] for row in rows] == [row["_step"] for row in rows] == list(range(1, STEPS + 1))
    expected: dict[int, dict] = {}
    for record in read_metrics(run / "metrics.jsonl"):
        expected[record["step"]] = expected.get(record["step"], {}) | record
    for row in rows:
        told = {name: value for name, value in row.items() if name.startswith(("loss/", "validation/", "data/"))}
        assert told == {name: expected[row["step"]][name] for name in told}
        assert any(name.startswith("validation/") for name in told) == (
            row["step"] % JUDGE_EVERY == 0 or row["step"] == STEPS
        )
        assert "loss/total" in told
