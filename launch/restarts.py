"""The starts of a run's job, and whether it should be given up: a crash loop ends after N starts without a new checkpoint."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from msvl.training.finished import complete_checkpoints

LOST = "ended without a word (its node died, or it was killed)"


@dataclass(frozen=True)
class Start:
    """One start of the job."""

    job: str
    restart: int
    """How often Slurm had started this job before."""
    began: str
    nodes: list[str]
    step: int
    """Newest finished checkpoint when it began."""
    reason: str = LOST
    """Why it ended."""
    asked: bool = False
    """Whether it ended because somebody asked it to (time limit, preemption): then it counts for no crash loop."""


class Restarts:
    """RUN/slurm/starts.json."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.starts = [Start(**entry) for entry in json.loads(path.read_text())] if path.is_file() else []

    def begin(self, job: str, restart: int, nodes: list[str], step: int) -> None:
        """Record a start."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.starts.append(Start(job=job, restart=restart, began=now, nodes=nodes, step=step))
        self._write()

    def end(self, reason: str, *, asked: bool) -> None:
        """Record how the last start ended."""
        self.starts[-1] = Start(**asdict(self.starts[-1]) | {"reason": reason, "asked": asked})
        self._write()

    def fruitless(self, job: str, step: int) -> list[Start]:
        """Return the job's failed starts in a row, newest last, since when the newest checkpoint is at `step`."""
        row: list[Start] = []
        for start in reversed(self.starts):
            if start.job != job or start.step < step:
                break
            if not start.asked:
                row.insert(0, start)
        return row

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps([asdict(start) for start in self.starts], indent=1), encoding="utf-8")
        os.replace(temporary, self._path)


def newest_step(run: Path) -> int:
    """Return the step of a run's newest finished checkpoint, 0 without one."""
    finished = complete_checkpoints(run / "checkpoints")
    return int(finished[-1].name.removeprefix("step-")) if finished else 0
