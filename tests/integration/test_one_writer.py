"""Two attempts of one run alive at once, as when a node's daemon dies and its tasks live on beside the requeued job."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from msvl.config.exit_codes import SUPERSEDED
from tests.helpers.runs import execute, losses, orphans, start, tiny_config, until

MSVL = [sys.executable, "-m", "msvl.cli", "train"]
TRAIN = [sys.executable, str(Path("tests") / "helpers" / "killed_train.py")]


def lines(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def attempts(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "run.json").read_text())["attempts"]


@pytest.mark.ranks
@pytest.mark.evidence(
    "Of two attempts alive at once on one run folder, the older one notices, writes nothing more and ends with one sentence; "
    "the newer one goes on",
    how="gloo",
)
def test_the_older_of_two_living_attempts_ends(tiny_set: Path, tmp_path: Path) -> None:
    train = {"steps": 100_000, "save_every": 10}
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", train=train)
    run = tmp_path / "r"
    older = start([*MSVL, str(config), "--ranks", "2"])
    newer = None
    try:
        until(lambda: len(lines(run)) > 30)
        newer = start([*MSVL, str(config), "--ranks", "2", "--resume"])
        ended = older.wait()
        sentences = [line for line in ended.output.splitlines() if line.startswith("msvl: ")]
        assert (ended.code, len(sentences)) == (SUPERSEDED, 1), ended.output[-3000:]
        assert "attempt 2" in sentences[0] and "so attempt 1 ends and writes nothing more" in sentences[0]
        assert "Traceback" not in ended.output
        assert orphans(ended.token) == []
        until(lambda: sum(line["attempt"] == 2 for line in lines(run)) > 30)
        os.kill(newer.process.pid, signal.SIGTERM)  # dies, and its ranks with it
        newer.wait()
    finally:
        older.end()
        if newer:
            newer.end()
    order = [line["attempt"] for line in lines(run)]
    assert order == sorted(order), "the older attempt wrote after the newer one had begun"
    first, second = attempts(run)
    assert (first["number"], first["end"], second["number"]) == (1, None, 2)
    assert second["resumed_at_step"] % 10 == 0
    steps = [step for step, _, _ in losses(run)]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.evidence(
    "An attempt that stood still before publishing a checkpoint, and wakes after a newer one has finished, publishes nothing",
    how="cpu",
)
def test_an_attempt_that_wakes_inside_a_save_publishes_nothing(tiny_set: Path, tmp_path: Path) -> None:
    train = {"steps": 6, "save_every": 3}
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r", train=train)
    run, trace = tmp_path / "r", tmp_path / "trace"
    plan = {"where": "rename", "rank": 0, "number": 1, "signal": "SIGSTOP"}
    sleeper = start(
        [*TRAIN, "--config", str(config)], environment={"KILL_AT": json.dumps(plan), "KILL_TRACE": str(trace)}
    )
    try:
        until(trace.is_file)
        done = execute([sys.executable, "-m", "msvl.train", "--config", str(config), "--resume"])
        assert done.code == 0, done.output[-3000:]
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        os.kill(int(trace.read_text()), signal.SIGCONT)
        ended = sleeper.wait()
    finally:
        sleeper.end()
    assert ended.code == SUPERSEDED, ended.output[-3000:]
    assert "attempt 2" in ended.output and "writes nothing more" in ended.output
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert [attempt["reason"] for attempt in attempts(run)] == [None, "finished"]
