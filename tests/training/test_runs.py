"""What run folders tell. Folders are made as a run makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msvl.config.errors import CheckpointError
from msvl.config.load import check_config
from msvl.training.config import PretrainConfig
from msvl.training.finished import MARKER, file_hash, refresh_best, retire, step_folder
from msvl.training.lease import Lease
from msvl.training.run_folder import RunFolder
from msvl.training.runs import list_checkpoints, list_runs
from msvl.training.state import TrainState

METRIC = "retrieval.report_r5"
ROOT = Path(__file__).resolve().parents[2]


def save(run: Path, step: int, judged: float | None = None) -> Path:
    """Make a checkpoint as the saver publishes it."""
    folder = step_folder(run / "checkpoints", step)
    (folder / "engine").mkdir(parents=True)
    judgement = {} if judged is None else {METRIC: judged}
    TrainState(step, 0, 1, 2, 8, "", {}, judgement=judgement).write(folder / "state.json")
    (folder / "engine" / "shard.pt").write_bytes(bytes(range(200)))
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_hash(folder / name)}
        for name in ("state.json", "engine/shard.pt")
    }
    (folder / MARKER).write_text(json.dumps({"files": files}))
    return folder


def begun(run: Path, *lines: dict[str, Any]) -> RunFolder:
    """Make the folder of a run that has begun its first attempt."""
    folder = RunFolder(run)
    folder.create()
    tree = {"run": {"name": run.name}, "data": {"path": "x"}, "train": {"steps": 40, "global_batch": 8}}
    config = check_config(tree, PretrainConfig, where="test")
    folder.begin_attempt(config, Lease.take(run).number, facts={"ranks": 2}, resumed_at=0)
    folder.metrics.write_text("".join(json.dumps(line | {"attempt": 1}) + "\n" for line in lines))
    return folder


def test_a_run_tells_step_best_metric_state_and_attempts(tmp_path: Path) -> None:
    judged = [{"step": step, f"validation/{METRIC}": value} for step, value in ((10, 0.2), (20, 0.5), (30, 0.4))]
    done = begun(tmp_path / "a", {"step": 10, "loss/total": 1.0}, *judged, {"step": 33, "loss/total": 1.0})
    done.end_attempt(1, "stopped by SIGTERM")
    begun(tmp_path / "b")
    (tmp_path / "notes").mkdir()
    first, second = list_runs(tmp_path)
    assert (first.name, first.step, first.steps, first.state, first.attempts) == ("a", 33, 40, "stopped by SIGTERM", 1)
    assert (first.metric, first.best, first.best_step) == (METRIC, 0.5, 20)
    assert (second.state, second.best, second.step) == ("running", None, 0)  # this process holds its lease


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    folder = begun(tmp_path / "a")
    Lease.take(folder.path)
    dead = subprocess.Popen(["true"])
    dead.wait()
    lease = folder.path / "attempts" / "00000002"
    lease.write_text(json.dumps(json.loads(lease.read_text()) | {"pid": dead.pid}))
    assert [(run.state, run.attempts) for run in list_runs(tmp_path)] == [("killed", 2)]
    lease.write_text(json.dumps({"host": "another", "pid": 1}))
    os.utime(folder.metrics, (0, 0))
    assert list_runs(tmp_path)[0].state.startswith("silent for ")


def test_checkpoints_tell_step_size_and_soundness(tmp_path: Path) -> None:
    run = begun(tmp_path / "a").path
    save(run, 10, 0.7)
    damaged = save(run, 20, 0.1) / "engine" / "shard.pt"
    data = bytearray(damaged.read_bytes())
    data[7] ^= 1
    damaged.write_bytes(data)
    Lease(run, 1).partial(run / "checkpoints", "step-00000030").mkdir()
    refresh_best(run / "checkpoints", METRIC)
    whole, broken, unfinished = list_checkpoints(run)
    assert (whole.step, whole.sound, whole.note) == (10, True, "best")
    assert whole.nbytes == sum(path.stat().st_size for path in Path(whole.folder).rglob("*") if path.is_file())
    assert (broken.step, broken.sound) == (20, False)
    assert f"{damaged} is damaged" in broken.note
    assert (unfinished.step, unfinished.sound) == (30, False)
    assert [item.sound for item in list_checkpoints(run, content=False)] == [True, True, False]
    damaged.unlink()
    assert "is missing" in list_checkpoints(run, content=False)[1].note


def test_the_commands_print_tables_and_json(tmp_path: Path) -> None:
    run = begun(tmp_path / "runs" / "a", {"step": 10, f"validation/{METRIC}": 0.25}).path
    save(run, 10, 0.25)

    def msvl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "msvl.cli", "runs", *words], cwd=ROOT, text=True, capture_output=True, check=False
        )

    table = msvl("list", str(tmp_path / "runs")).stdout.splitlines()
    assert table[0].split() == ["run", "step", "best", "state", "attempts"]
    assert table[1].split()[:5] == ["a", "10", "of", "40", "0.2500"]
    assert json.loads(msvl("list", str(tmp_path / "runs"), "--json").stdout)[0]["best_step"] == 10
    sound = msvl("checkpoints", str(run), "--json")
    assert (sound.returncode, json.loads(sound.stdout)[0]["sound"]) == (0, True)
    (run / "checkpoints" / "step-00000010" / "state.json").write_text("{}")
    broken = msvl("checkpoints", str(run))
    assert broken.returncode == 1
    assert broken.stdout.splitlines()[1].split()[:3] == ["10", "0.0", "no"]
    nothing = msvl("checkpoints", str(tmp_path))
    assert (nothing.returncode, "is no run folder" in nothing.stderr) == (2, True)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is no folder"):
        list_runs(tmp_path / "nowhere")


def test_newest_and_best_checkpoints_stay(tmp_path: Path) -> None:
    run = tmp_path / "r"
    for step, value in ((1, 0.9), (2, 0.8), (3, None), (4, 0.1), (5, 0.2), (6, None)):
        save(run, step, value)
    gone = retire(run / "checkpoints", keep=2, keep_best=2, metric=METRIC)
    assert [folder.name for folder in gone] == ["step-00000003", "step-00000004"]
    left = [item.step for item in list_checkpoints(run) if item.sound]
    assert left == [1, 2, 5, 6]
    assert retire(run / "checkpoints", keep=2, keep_best=2, metric=METRIC) == gone, (
        "a removal that a kill cut short goes on"
    )
