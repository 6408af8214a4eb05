"""The drill: a two-rank run killed at random moments, on other numbers of ranks towards its end, equals one never killed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.runs import launch, losses, orphans, tiny_config

SAVE_EVERY = 3
MOST_STEPS = 9
"""Steps that an attempt makes at most before it is killed, except by the clock."""
SEED = 20260711


@dataclass(frozen=True)
class Drill:
    """How often, and for how long."""

    same_world: int
    """Kills while the run stays on two ranks: its losses must be equal to the bit."""
    changing: int
    """Kills after which the number of ranks changes: 1e-4."""
    steps: int


SHORT = Drill(same_world=3, changing=2, steps=60)
LONG = Drill(same_world=20, changing=10, steps=300)


def kills(drill: Drill, draw: random.Random) -> list[tuple[int, dict[str, Any]]]:
    """Return (ranks, moment) of every kill. Each kind of moment comes before any comes again."""
    worlds = [2] * drill.same_world + [draw.choice([1, 2, 4]) for _ in range(drill.changing - 1)] + [4]
    kinds: list[str] = []
    planned = []
    for world in worlds:
        kinds = kinds or draw.sample(["save", "forward", "rename", "clock", "optimizer", "save", "load", "lease"], 8)
        where = kinds.pop()
        moment: dict[str, Any] = {"where": where, "rank": draw.randrange(world), "number": draw.randint(2, MOST_STEPS)}
        if where == "save":
            moment |= {"number": draw.randint(1, 2), "share": draw.choice([0.0, draw.random(), 0.999])}
        elif where == "rename":
            moment |= {"number": draw.randint(1, 2), "rank": 0}
        elif where == "clock":
            moment |= {"share": round(draw.uniform(0, 1.5), 3)}
        elif where == "lease":
            moment |= {"rank": 0}
        planned.append((world, moment))
    return planned


@pytest.mark.ranks
@pytest.mark.evidence(
    "A two-rank run killed by SIGKILL at random moments, inside saves and inside resumes too, on other numbers of ranks towards "
    "its end, equals one never killed: sample keys at every step, losses to the bit on the same number of ranks and to 1e-4 on "
    "another (5 kills in CI, 30 by `make drill`)",
    how="gloo",
)
@pytest.mark.parametrize(
    "drill", [pytest.param(SHORT, id="5-kills"), pytest.param(LONG, id="30-kills", marks=pytest.mark.slow)]
)
def test_drill(drill: Drill, tiny_set: Path, tmp_path: Path) -> None:
    sections = {
        "train": {"steps": drill.steps, "save_every": SAVE_EVERY},
        "optimizer": {"lr": 2e-4, "warmup_steps": 5},
    }
    whole = tiny_config(tmp_path / "whole.yaml", data=tiny_set, runs=tmp_path, name="whole", **sections)
    killed = tiny_config(tmp_path / "killed.yaml", data=tiny_set, runs=tmp_path, name="killed", **sections)
    done = launch(whole)
    assert done.code == 0, done.output[-3000:]
    inside = 0
    for number, (ranks, moment) in enumerate(kills(drill, random.Random(SEED))):
        trace = tmp_path / f"trace-{number}"
        dead = launch(
            killed, "--resume", ranks=ranks, script="tests/helpers/killed_train.py",
            environment={"KILL_AT": json.dumps(moment), "KILL_TRACE": str(trace)},
        )  # fmt: skip
        assert trace.is_file(), f"{moment} was never reached:\n{dead.output[-3000:]}"
        assert dead.code != 0
        assert orphans(dead.token) == []
        inside += bool(list((tmp_path / "killed" / "checkpoints").glob(".partial-*")))
    assert inside > 0, "no kill fell inside a save"
    last = launch(killed, "--resume")
    assert last.code == 0, last.output[-3000:]
    compare(tmp_path, drill)


def compare(folder: Path, drill: Drill) -> None:
    """Check every step of the killed run against the whole one."""
    expected, found = losses(folder / "whole"), losses(folder / "killed")
    assert [(step, digest) for step, _, digest in found] == [(step, digest) for step, _, digest in expected]
    assert len(found) == drill.steps
    attempts = json.loads((folder / "killed" / "run.json").read_text())["attempts"]
    moved = next((attempt["resumed_at_step"] for attempt in attempts if attempt["ranks"] != 2), drill.steps)
    assert moved > 0, "the number of ranks changed before anything was saved"
    for (step, values, _), (_, reference, _) in zip(found, expected, strict=True):
        for name, value in reference.items():
            tolerance = 0.0 if step <= moved else 1e-4 * abs(value)
            assert abs(values[name] - value) <= tolerance, f"step {step}, {name}: {values[name]} and {value}"
