"""How often a run was started again without a new checkpoint in between: what a launcher asks before it requeues once more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from msvl.training.finished import complete_checkpoints
from msvl.training.run_folder import RunFolder


@dataclass(frozen=True)
class Restarts:
    """As run.json keeps it under "restarts"."""

    starts: int
    """All so far."""
    without_progress: int
    """Starts in a row that found no newer checkpoint than the start before; 0 at the first."""
    step: int
    """Of the newest checkpoint, 0 without one."""


def count_start(run: Path) -> Restarts:
    """Count a start of the run in `run` and return the count; a launcher calls it before it starts the ranks.

    It counts attempts that die before they can write anything, too. The folder is made when there is none yet.
    """
    folder = RunFolder(run)
    folder.create()
    finished = complete_checkpoints(folder.checkpoints)
    step = int(finished[-1].name.removeprefix("step-")) if finished else 0
    record = folder.read()
    last = record.get("restarts")
    stuck = last["without_progress"] + 1 if last and step <= last["step"] else 0
    counted = Restarts((last["starts"] if last else 0) + 1, stuck, step)
    folder.write(record | {"restarts": asdict(counted)})
    return counted
