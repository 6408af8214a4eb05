"""`data.json` of a run folder: with the fills, all that is needed to tell what any step of the run has read."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from msvl.config.errors import CheckpointError
from msvl.data.config import DataConfig
from msvl.data.fills import FOLDER

FILE = "data.json"


@dataclass(frozen=True)
class RunData:
    """What decides the sequence of a run."""

    seed: int
    global_batch: int
    state: dict[str, Any]
    """Of `TrainingData`."""
    data: DataConfig

    def write(self, run: Path, *, fresh: bool) -> None:
        """Write it into a run folder; with `fresh` (no checkpoint) fills of another sequence are removed."""
        path = run / FILE
        if fresh and path.is_file() and not self.same_sequence(RunData.read(run)):
            shutil.rmtree(run / FOLDER, ignore_errors=True)
        aside = run / f".{FILE}.{os.getpid()}"
        content = {"seed": self.seed, "global_batch": self.global_batch, "state": self.state}
        aside.write_text(json.dumps(content | {"data": self.data.model_dump(mode="json")}, indent=1), encoding="utf-8")
        os.replace(aside, path)

    @classmethod
    def read(cls, run: Path) -> RunData:
        """Read it. Raises CheckpointError when the folder is no run, or the file is damaged."""
        path = run / FILE
        if not path.is_file():
            raise CheckpointError(f"{run} is no run folder (no {FILE}): name one, such as runs/NAME")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**content | {"data": DataConfig.model_validate(content["data"])})
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): --resume writes it anew") from error

    def same_sequence(self, other: RunData) -> bool:
        """Return whether both read the same at every step."""
        return (self.seed, self.global_batch) == (other.seed, other.global_batch) and not differences(
            self.state, other.state
        )


def differences(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of what makes two sequences different; an epoch's declared length does not."""
    return [
        name for name in sorted(was.keys() | now.keys()) if name != "epoch_samples" and was.get(name) != now.get(name)
    ]
