"""What became of a check: a verdict in words, and what it found. Each is a file, so that a job that starts again goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Result:
    """A check that is over."""

    name: str
    title: str
    verdict: Verdict
    says: str
    """What was found, or why it failed or was not run. May hold paths and names until the page is made."""
    seconds: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)
    """Figures."""

    def words(self) -> str:
        """Return the verdict as a person reads it."""
        joined = {"passed": ": ", "failed": ": ", "not run": " because "}[self.verdict]
        return f"{self.verdict}{joined}{self.says}" if self.says else self.verdict


def accepted(results: Sequence[Result]) -> bool:
    """Return whether something was run and everything that was run passed."""
    verdicts = {result.verdict for result in results}
    return "passed" in verdicts and "failed" not in verdicts


def store(folder: Path, result: Result) -> None:
    """Write a result, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{result.name}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    os.replace(temporary, folder / f"{result.name}.json")


def stored(folder: Path, name: str) -> Result | None:
    """Return a result that an earlier start of the job wrote, None without one."""
    path = folder / f"{name}.json"
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
