"""Exactly what a resume needs beside weights and optimizer: small, and the same on every rank."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from msvl.config.errors import CheckpointError, ClusterError
from msvl.data.run_data import differences


@dataclass(frozen=True)
class TrainState:
    """The position of a run."""

    step: int
    """Optimizer steps done; the next batch is global batch number `step`."""
    seed: int
    world: int
    zero_stage: int
    global_batch: int
    data_fingerprint: str
    """Of the manifest of `data.path`: statistics and judgement come from there."""
    data: dict[str, Any]
    """What decides the sequence of samples beside seed and global batch (lanes, window, images, manifest and weight of each
    source); the epoch; places filled and samples lost so far."""
    judgement: dict[str, float] = field(default_factory=dict)
    """Flat metrics of the last judgement at this very step (empty when there was none)."""
    recent_losses: list[float] = field(default_factory=list)
    """Total losses of the last good steps, by which a leap is known."""
    bad_steps: list[int] = field(default_factory=list)
    """Steps without an update because their batch was bad."""

    def advanced(self) -> TrainState:
        """Return the state one step on."""
        return replace(self, step=self.step + 1, judgement={})

    def write(self, path: Path) -> None:
        """Write as JSON and flush."""
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())

    @classmethod
    def read(cls, path: Path) -> TrainState:
        """Read back. Raises CheckpointError when the file is not what `write` made."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): the checkpoint is damaged; remove its folder"
            ) from error

    def check_fits(self, zero_stage: int, folder: Path) -> None:
        """Raise ClusterError when the checkpoint's optimizer shards do not fit this start."""
        if self.zero_stage != zero_stage:
            raise ClusterError(
                f"{folder} was saved with zero.stage={self.zero_stage} and this run has {zero_stage}: resume with "
                f"zero.stage={self.zero_stage}"
            )

    def check_same_run(
        self, *, seed: int, global_batch: int, data_fingerprint: str, data: dict[str, Any], folder: Path
    ) -> None:
        """Raise CheckpointError when a resume would silently be another run."""
        was, now = {"seed": self.seed, "global_batch": self.global_batch}, {"seed": seed, "global_batch": global_batch}
        for name in differences(was, now):
            raise CheckpointError(
                f"{folder}: train.{name} was {was[name]} when this run began and is {now[name]} now: resume with the old "
                "value, or choose another run.name"
            )
        if self.data_fingerprint != data_fingerprint or _manifests(self.data) != _manifests(data):
            raise CheckpointError(
                f"{folder}: the packed set has another manifest than when this run began (packed again, or samples of it "
                "were forgotten), and so another order: put the old set back, or begin a new run with another run.name"
            )
        known = {name: self.data.get(name) for name in data}
        for name in differences(known, data):
            raise CheckpointError(
                f"{folder}: data.{name} was {known[name]} when this run began and is {data[name]} now, which is another "
                "order of samples: resume with the old value, or choose another run.name"
            )


def _manifests(data: dict[str, Any]) -> list[str]:
    return [source["manifest"] for source in data["mix"]]
