"""A run killed by SIGKILL at any moment and resumed gives, to the bit, the losses and samples of one never killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.runs import launch, losses, orphans, tiny_config

STEPS = 12
SAVE_EVERY = 3
KILLS = [
    {"where": "start", "rank": 1},
    {"where": "forward", "rank": 0, "number": 2},
    {"where": "save", "rank": 0, "number": 1, "share": 0.0},
    {"where": "save", "rank": 1, "number": 1, "share": 0.5},
    {"where": "optimizer", "rank": 1, "number": 5},
    {"where": "save", "rank": 0, "number": 2, "share": 0.99},
    {"where": "rename", "rank": 0, "number": 1},
    {"where": "forward", "rank": 1, "number": 5},
]
"""In the order of one run's attempts; `number` counts calls within the attempt."""


def check_sharding(folder: Path, output: str, *, stage: int) -> None:
    """Every rank kept its own part of the optimizer's state, and what the run says of itself is true."""
    shards = sorted((folder / "checkpoints" / f"step-{STEPS:08}" / "engine").glob("*optim_states.pt"))
    assert len(shards) == 2
    facts = json.loads((folder / "run.json").read_text())["facts"]
    assert (facts["zero_stage"], facts["ranks"], facts["precision"]) == (stage, 2, "fp32")
    assert f"ZeRO-{stage}" in output


@pytest.mark.ranks
@pytest.mark.evidence(
    "A run killed at any moment (starting, in forward, in the optimiser, inside a save, before its rename) and resumed gives "
    "the losses and samples of one never killed, to the bit, under ZeRO 2 and 3",
    how="gloo",
)
@pytest.mark.parametrize(
    ("stage", "kills"),
    [
        pytest.param(3, KILLS, id="zero-3-every-kill"),
        pytest.param(2, KILLS, id="zero-2-every-kill"),
    ],
)
def test_killed_run_equals_uninterrupted_one(
    stage: int, kills: list[dict[str, object]], tiny_set: Path, tmp_path: Path
) -> None:
    sections = {"train": {"steps": STEPS, "save_every": SAVE_EVERY}, "zero": {"stage": stage}}
    whole = tiny_config(tmp_path / "whole.yaml", data=tiny_set, runs=tmp_path, name="whole", **sections)
    killed = tiny_config(tmp_path / "killed.yaml", data=tiny_set, runs=tmp_path, name="killed", **sections)
    finished = launch(whole)
    assert finished.code == 0, finished.output[-3000:]
    check_sharding(tmp_path / "whole", finished.output, stage=stage)
    for number, kill in enumerate(kills):
        trace = tmp_path / f"trace-{number}"
        dead = launch(
            killed, "--resume", script="tests/helpers/killed_train.py",
            environment={"KILL_AT": json.dumps(kill), "KILL_TRACE": str(trace)},
        )  # fmt: skip
        assert trace.is_file(), f"{kill} was never reached:\n{dead.output[-3000:]}"
        assert dead.code != 0
        assert orphans(dead.token) == []
        for folder in (tmp_path / "killed" / "checkpoints").glob("step-*"):
            assert (folder / "COMPLETE").is_file()
    resumed = launch(killed, "--resume")
    assert resumed.code == 0, resumed.output[-3000:]
    assert orphans(resumed.token) == []
    assert [step for step, _, _ in losses(tmp_path / "whole")] == list(range(1, STEPS + 1))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
