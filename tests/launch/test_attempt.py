"""What follows from what a start of a training job left on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launch.attempt import TrainingJob, given_up, judge
from launch.cluster import Cluster
from launch.preflight import write_report
from launch.rendezvous import Rendezvous
from launch.restarts import LOST, Restarts, newest_step
from launch.signals import Signals
from msvl.training.finished import MARKER, step_folder

STEPS = 100


def run_at(folder: Path, step: int, *, reason: str | None = None) -> Path:
    run = folder / "run"
    if step:
        checkpoint = step_folder(run / "checkpoints", step)
        checkpoint.mkdir(parents=True)
        (checkpoint / MARKER).write_text("{}")
    run.mkdir(exist_ok=True)
    start = datetime.now(UTC).isoformat(timespec="seconds")
    (run / "run.json").write_text(json.dumps({"attempts": [{"start": start, "reason": reason}]}))
    return run


def told(*, warned: bool = False, ended: bool = False) -> Signals:
    signals = Signals()
    signals.warned, signals.ended = warned, ended
    return signals


@pytest.mark.parametrize(
    ("step", "code", "exit_code", "reason", "signals", "then", "asked"),
    [
        pytest.param(100, 0, None, "finished", told(), "done", False, id="finished"),
        pytest.param(100, 143, None, None, told(ended=True), "done", False, id="finished-before-it-was-killed"),
        pytest.param(40, 0, None, "stopped by SIGUSR2", told(warned=True), "requeue", True, id="time-limit"),
        pytest.param(40, 143, None, "stopped by SIGTERM", told(), "requeue", True, id="preempted-tasks-only"),
        pytest.param(40, 143, None, "stopped by SIGTERM", told(ended=True), "ended", True, id="scancel"),
        pytest.param(40, 1, None, None, told(), "requeue", False, id="a-rank-died"),
        pytest.param(40, 1, "2", "failed", told(), "fail", False, id="the-user-must-act"),
        pytest.param(40, 1, "86", "failed", told(), "fail", False, id="superseded"),
        pytest.param(40, 1, "85", "hung: rank 3 in data of step 47", told(), "requeue", False, id="hung"),
        pytest.param(0, 1, None, None, told(), "requeue", False, id="died-at-once"),
    ],
)
def test_what_follows(
    tmp_path: Path,
    step: int,
    code: int,
    exit_code: str | None,
    reason: str | None,
    signals: Signals,
    then: str,
    asked: bool,
) -> None:
    exit_file = tmp_path / "exit-code"
    if exit_code is not None:
        exit_file.write_text(exit_code)
    outcome = judge(run_at(tmp_path, step, reason=reason), STEPS, code, exit_file, signals, began=time.time())
    assert (outcome.then, outcome.asked) == (then, asked), outcome.reason
    assert str(step) in outcome.reason
    assert not (reason or "").startswith("hung") or outcome.reason.startswith(str(reason))


def test_an_older_attempts_reason_does_not_count(tmp_path: Path) -> None:
    run = run_at(tmp_path, 40, reason="stopped by SIGTERM")
    outcome = judge(run, STEPS, 1, tmp_path / "none", told(), began=time.time() + 60)
    assert (outcome.then, outcome.asked) == ("requeue", False)


def test_a_crash_loop_is_counted_and_a_checkpoint_or_a_request_ends_the_row(tmp_path: Path) -> None:
    restarts = Restarts(tmp_path / "starts.json")
    for restart, (step, reason, asked) in enumerate(
        [
            (0, "died", False),
            (0, "stopped by SIGUSR2", True),
            (30, "died", False),
            (30, None, False),
            (30, "died", False),
        ]
    ):
        restarts.begin("7", restart, ["n1"], step)
        if reason:
            restarts.end(reason, asked=asked)
    again = Restarts(tmp_path / "starts.json")
    assert [start.reason for start in again.fruitless("7", 30)] == ["died", LOST, "died"]
    assert again.fruitless("7", 60) == []
    assert again.fruitless("8", 30) == []


def test_giving_up_says_why(tmp_path: Path) -> None:
    restarts = Restarts(tmp_path / "starts.json")
    restarts.begin("7", 0, ["n1", "n2"], 30)
    restarts.end("training died with exit code 1 after step 30", asked=False)
    text = str(given_up(restarts.fruitless("7", 30), 30))
    assert "given up after 1 starts in a row without a new checkpoint (the newest is step 30)" in text
    assert "on n1,n2: training died with exit code 1 after step 30" in text


def test_newest_step_counts_finished_checkpoints_only(tmp_path: Path) -> None:
    run = run_at(tmp_path, 40)
    step_folder(run / "checkpoints", 80).mkdir()
    assert newest_step(run) == 40


class Hanging(TrainingJob):
    """A job whose pre-flight never ends on one of its nodes."""

    def srun(self, words: Sequence[str], nodes: int, tasks: int, output: object = None) -> subprocess.Popen[bytes]:
        write_report(Path(self.run), "n1", [])
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_node_that_hangs_in_the_pre_flight_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr("launch.attempt.PREFLIGHT_SECONDS", 0.3)
    ended: list[str] = []
    monkeypatch.setattr("launch.attempt.scontrol.end_steps", ended.append)
    cluster = Cluster.model_validate({"partition": "p", "ranks_per_node": 1})
    job = Hanging(str(tmp_path / "reports"), "c.yaml", "code", "0", STEPS, cluster)
    began = time.monotonic()
    silent = job.check_nodes(tmp_path / "reports", "c.yaml", ["n1", "n2"], Rendezvous("n1", 12345), Signals())
    assert silent == ["n2"]
    assert time.monotonic() - began < 20
    assert ended == ["17"], "a killed srun leaves its tasks alone, so Slurm ends them"
