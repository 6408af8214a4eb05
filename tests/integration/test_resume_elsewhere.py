"""A run killed on 1 rank goes on by itself on 2, then on 4, then on 1: the samples and losses of one never killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.runs import launch, losses, orphans, tiny_config

STEPS, SAVE_EVERY = 12, 3
ATTEMPTS = [(1, 0), (2, 3), (4, 6), (1, 9)]
"""Ranks of each attempt, and the step that it goes on from; each but the last is killed in its fifth step."""
KILL = json.dumps({"where": "forward", "rank": 0, "number": 5})


@pytest.mark.ranks
@pytest.mark.evidence(
    "A run killed on 1 rank goes on by --resume on 2, then 4, then 1 ranks: sample keys equal at every step, losses to 1e-4; "
    "the first screen says so",
    how="gloo",
)
@pytest.mark.parametrize("stage", [*(pytest.param(stage, marks=pytest.mark.slow) for stage in (0, 1, 2)), 3])
def test_one_two_four_one(stage: int, tiny_set: Path, tmp_path: Path) -> None:
    # Saves that training waits for, so that the test knows where each attempt goes on.
    train = {"steps": STEPS, "save_every": SAVE_EVERY, "background_saves": False}
    sections = {"train": train, "zero": {"stage": stage}}
    whole = tiny_config(tmp_path / "whole.yaml", data=tiny_set, runs=tmp_path, name="whole", **sections)
    moved = tiny_config(tmp_path / "moved.yaml", data=tiny_set, runs=tmp_path, name="moved", **sections)
    done = launch(whole, ranks=1)
    assert done.code == 0, done.output[-3000:]
    before = None
    for number, (ranks, step) in enumerate(ATTEMPTS):
        last = number == len(ATTEMPTS) - 1
        trace = {} if last else {"KILL_AT": KILL, "KILL_TRACE": str(tmp_path / f"trace-{number}")}
        script = "msvl/train.py" if last else "tests/helpers/killed_train.py"
        ended = launch(moved, "--resume", ranks=ranks, script=script, environment=trace)
        assert (ended.code == 0) == last, ended.output[-3000:]
        assert orphans(ended.token) == []
        said = f"resumed after step {step}, saved by {before} ranks, shared out over {ranks}"
        assert before is None or said in ended.output, ended.output[-3000:]
        before = ranks
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "moved")
    assert [(step, digest) for step, _, digest in found] == [(step, digest) for step, _, digest in expected]
    assert len(found) == STEPS
    for (step, values, _), (_, reference, _) in zip(found, expected, strict=True):
        for name, value in reference.items():
            assert abs(values[name] - value) <= 1e-4 * abs(value), f"step {step}, {name}: {values[name]} and {value}"
    attempts = json.loads((tmp_path / "moved" / "run.json").read_text())["attempts"]
    assert [(attempt["ranks"], attempt["resumed_at_step"]) for attempt in attempts] == ATTEMPTS
