"""Training goes on while a checkpoint is written, and what is written is the state at its step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from msvl.training.finished import verify
from tests.helpers.runs import execute, losses, tiny_config

KILLED = [sys.executable, str(Path("tests") / "helpers" / "killed_train.py")]
SCRIPT = [sys.executable, str(Path("tests") / "helpers" / "slow_disk_train.py")]


@pytest.mark.evidence(
    "Training waits for no disk: steps go on while a checkpoint is being written, and a resume from it gives the losses of a run "
    "that never stopped, to the bit",
    how="cpu",
)
def test_steps_go_on_while_a_checkpoint_is_written(tiny_set: Path, tmp_path: Path) -> None:
    train = {"steps": 12, "save_every": 4, "keep": 5}
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", train=train)
    # The save of step 4 is written only after step 7 is on record; that of step 8 follows it.
    done = execute([*SCRIPT, "--config", str(config)], environment={"SLOW_UNTIL": "7"})
    assert done.code == 0, done.output[-3000:]
    run, whole = tmp_path / "r", losses(tmp_path / "r")
    assert [step for step, _, _ in whole] == list(range(1, 13))
    checkpoints = sorted((run / "checkpoints").glob("step-*"))
    assert [folder.name for folder in checkpoints] == ["step-00000004", "step-00000008", "step-00000012"]
    for folder in checkpoints[1:]:
        verify(folder)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()
    again = execute([sys.executable, "-m", "msvl.train", "--config", str(config), "--resume"])
    assert again.code == 0, again.output[-3000:]
    resumed = json.loads((run / "run.json").read_text())["attempts"][-1]["resumed_at_step"]
    assert (resumed, losses(run)) == (4, whole)


@pytest.mark.evidence(
    "A node that is lost while a checkpoint is still being written costs that save alone: the run goes on from the one before it",
    how="cpu",
)
def test_a_lost_save_falls_back_to_the_checkpoint_before(tiny_set: Path, tmp_path: Path) -> None:
    train = {"steps": 12, "save_every": 4}
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", train=train)
    moment = {"where": "rename", "rank": 0, "number": 2}
    dead = execute(
        [*KILLED, "--config", str(config)],
        environment={"KILL_AT": json.dumps(moment), "KILL_TRACE": str(tmp_path / "trace")},
    )
    assert dead.code == -9, dead.output[-3000:]
    checkpoints = tmp_path / "r" / "checkpoints"
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-00000004"]
    assert [path.name for path in checkpoints.glob(".partial-*")] == [".partial-00000001-step-00000008"]
    again = execute([sys.executable, "-m", "msvl.train", "--config", str(config), "--resume"])
    assert again.code == 0, again.output[-3000:]
    assert json.loads((tmp_path / "r" / "run.json").read_text())["attempts"][-1]["resumed_at_step"] == 4
    assert [step for step, _, _ in losses(tmp_path / "r")] == list(range(1, 13))


def test_without_background_training_waits_for_the_disk(tiny_set: Path, tmp_path: Path) -> None:
    train = {"steps": 8, "save_every": 4, "background_saves": False}
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", train=train)
    done = execute([*SCRIPT, "--config", str(config)], environment={"SLOW_UNTIL": "4"})
    assert done.code == 0, done.output[-3000:]
    assert len(losses(tmp_path / "r")) == 8
