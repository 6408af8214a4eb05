"""What the folders of runs tell: how far each is, how good, in which state; and which checkpoints of a run are sound."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import CheckpointError
from msvl.config.load import parse_yaml
from msvl.monitoring.heartbeat import start_time
from msvl.monitoring.writers import read_metrics
from msvl.training.finished import MARKER, damage, verify
from msvl.training.lease import FOLDER, PARTIAL, newest

SILENT_SECONDS = 900.0
"""A run on another machine that has logged nothing for so long is not called running."""


@dataclass(frozen=True)
class RunSummary:
    """One row of `msvl runs list`."""

    name: str
    step: int
    """Last one logged."""
    steps: int
    metric: str
    """That chooses the best checkpoint."""
    best: float | None
    best_step: int | None
    state: str
    attempts: int
    folder: str


@dataclass(frozen=True)
class CheckpointSummary:
    """One row of `msvl runs checkpoints`."""

    step: int
    nbytes: int
    sound: bool
    note: str
    """What is wrong with it, or what it is beside."""
    damaged: bool
    """Whether it was finished and is not what was saved any more."""
    folder: str


def list_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in a folder, by name. Raises CheckpointError when there is no such folder."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder: name the one that holds the runs, such as runs")
    return [summarise(run) for run in sorted(folder.iterdir()) if (run / "run.json").is_file()]


def summarise(run: Path) -> RunSummary:
    """Return what a run's folder tells. Raises CheckpointError when a file of it is damaged."""
    try:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        config = parse_yaml((run / "config.yaml").read_text(encoding="utf-8"), str(run / "config.yaml"))
        steps, metric = config["train"]["steps"], config["validation"]["best_metric"]
    except FileNotFoundError:
        record, steps, metric = {}, 0, ""
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{run} is damaged ({error}): its run.json or config.yaml is not what msvl wrote"
        ) from error
    metrics = run / "metrics.jsonl"
    lines = read_metrics(metrics) if metrics.is_file() else []
    judged = [(line[f"validation/{metric}"], line["step"]) for line in lines if f"validation/{metric}" in line]
    best, best_step = max(judged, default=(None, None), key=lambda item: item[0])
    return RunSummary(
        name=run.name,
        step=max((line["step"] for line in lines), default=0),
        steps=steps,
        metric=metric,
        best=best,
        best_step=best_step,
        state=_state(run, record),
        attempts=max(newest(run), len(record.get("attempts", []))),
        folder=str(run),
    )


def _state(run: Path, record: dict[str, Any]) -> str:
    """Return 'finished', 'stopped by SIGTERM', 'running', 'killed' or how long the run has been silent."""
    attempts = record.get("attempts", [])
    if not attempts:
        return "not begun"
    last = attempts[-1]
    if last["reason"]:
        return str(last["reason"]).partition(":")[0]
    try:
        holder = json.loads((run / FOLDER / f"{newest(run):08d}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        holder = {}
    if holder.get("host") == socket.gethostname():
        return "running" if start_time(int(holder["pid"])) else "killed"
    metrics = run / "metrics.jsonl"
    silent = time.time() - (metrics if metrics.is_file() else run / "run.json").stat().st_mtime
    return "running" if silent < SILENT_SECONDS else f"silent for {silent / 3600:.1f} h"


def list_checkpoints(run: Path, *, content: bool = True) -> list[CheckpointSummary]:
    """Return the checkpoints of a run, oldest first, unfinished ones too; with `content` every byte is read and hashed.

    Raises CheckpointError when the folder is no run.
    """
    checkpoints = run / "checkpoints"
    if not checkpoints.is_dir():
        raise CheckpointError(f"{run} is no run folder (no checkpoints/): name one, such as runs/NAME")
    best = (checkpoints / "best").resolve() if (checkpoints / "best").exists() else None
    return [
        _checkpoint(folder, best=folder.resolve() == best, content=content)
        for folder in [*sorted(checkpoints.glob("step-*")), *sorted(checkpoints.glob(f"{PARTIAL}*"))]
    ]


def _checkpoint(folder: Path, *, best: bool, content: bool) -> CheckpointSummary:
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    wrong, finished = None, (folder / MARKER).is_file()
    if not finished:
        wrong = "unfinished: being written, or left by a kill" if folder.name.startswith(PARTIAL) else "being removed"
    else:
        try:
            verify(folder)
            wrong = damage(folder) if content else None
        except CheckpointError as error:
            wrong = str(error)
    step = int(folder.name.rpartition("-")[2])
    sound = wrong is None
    return CheckpointSummary(
        step, nbytes, sound, wrong or ("best" if best else ""), finished and not sound, str(folder)
    )
