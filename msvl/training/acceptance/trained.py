"""One rank of a training run, by the entry point of every run: what it is watched for is how much memory it took, or its death."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from msvl.training import cli

MEMORY_FILES = "memory-rank-*.json"


def train(words: Sequence[str], *, memory: Path | None, die_at: int | None) -> int:
    """Train as one rank; return the exit code.

    Args:
        words: As `msvl/train.py` takes them.
        memory: Folder that gets this rank's peak of memory, when the run ends well.
        die_at: The last rank kills itself by SIGKILL when it is about to make this step (counted from 0).
    """
    with _death(die_at if is_last_rank() else None):
        code = cli.main(words)
    if memory is not None and code == 0:
        rank = int(os.environ["RANK"])
        (memory / f"memory-rank-{rank:05d}.json").write_text(json.dumps(peak_memory()), encoding="utf-8")
    return code


def is_last_rank() -> bool:
    """Return whether this process has the highest rank, as its launcher says."""
    return int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1


def peak_memory() -> dict[str, float]:
    """Return the peak of this process in 10^9 bytes: of main memory, and of its GPU's allocator where there is one."""
    import torch

    found = {"main": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_reserved() / 1e9
    return found


def read_memory(folder: Path) -> dict[str, float]:
    """Return the peak of the rank that took most, by kind. Empty when no rank has told."""
    found: dict[str, float] = {}
    for path in folder.glob(MEMORY_FILES):
        for kind, value in json.loads(path.read_text(encoding="utf-8")).items():
            found[kind] = max(found.get(kind, 0.0), value)
    return found


@contextmanager
def _death(step: int | None) -> Iterator[None]:
    """Kill this process by SIGKILL before the forward pass of a step: the other ranks are in a collective by then."""
    if step is None:
        yield
        return
    from msvl.training.engine import Engine

    forward = Engine.forward

    def last(engine: Engine, batch: Any) -> Any:
        if batch.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(engine, batch)

    with mock.patch.object(Engine, "forward", last):
        yield
