"""Checkpoints that a kill cannot break, written while training goes on.

A save takes a copy of everything into memory; training waits for that only. A thread of each rank then writes its files into a
folder of the run that is no checkpoint yet. When the files of all ranks are on disk with their hashes, rank 0 marks the folder
and renames it, at the end of a step, agreed on by all ranks. A node lost before that costs this save and no other.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from msvl.collectives.agree import all_objects, barrier, first_message, from_rank_zero
from msvl.collectives.world import rank
from msvl.config.errors import CheckpointError, ConfigError
from msvl.training import storage
from msvl.training.checkpoint import Snapshot, capture
from msvl.training.engine import Engine
from msvl.training.finished import (
    MARKER,
    file_hash,
    refresh_best,
    remove,
    retire,
    scored_checkpoints,
    step_folder,
)
from msvl.training.lease import Lease
from msvl.training.run_folder import METRICS
from msvl.training.state import TrainState

Export = Callable[[dict[str, torch.Tensor], Path], None]
"""Writes the model for evaluation from the root module's whole weights; called on rank 0 only."""
Files = dict[str, dict[str, int | str]]


@dataclass(frozen=True)
class Retention:
    """Which finished checkpoints stay."""

    keep: int
    """Newest ones."""
    keep_best: int
    """Best ones, by `metric`."""
    metric: str


@dataclass
class _Writing:
    """A save under way on this rank."""

    snapshot: Snapshot
    partial: Path
    thread: threading.Thread
    files: Files
    failure: str | None = "the thread that wrote it died"


class Saver:
    """Saves checkpoints of one attempt. At most one is under way."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Path,
        lease: Lease,
        *,
        export: Export,
        retention: Retention,
        background: bool,
    ) -> None:
        self._engine = engine
        self._checkpoints = checkpoints
        self._lease = lease
        self._export = export
        self._retention = retention
        self._background = background
        self._writing: _Writing | None = None
        self._removal: threading.Thread | None = None

    def save(self, state: TrainState) -> None:
        """Collective. Save everything that a resume needs; in the background, `finish` makes it a checkpoint.

        Raises CheckpointError on every rank, with nothing left visible, when this or the last save cannot be written, and
        SupersededError when a newer attempt has the run folder.
        """
        self.finish()
        final = step_folder(self._checkpoints, state.step)
        self._check_lease()
        if from_rank_zero((final / MARKER).is_file()):
            return
        partial = self._lease.partial(self._checkpoints, final.name)
        failure = _attempt(lambda: _make_empty(partial), partial) if rank() == 0 else None
        self._raise_if_any(failure, partial)
        snapshot = capture(self._engine, state, copies=self._background)
        thread = threading.Thread(target=self._write, name="msvl-save")
        self._writing = _Writing(snapshot, partial, thread, {})
        thread.start()
        if not self._background:
            self.finish()

    def writing_here(self) -> bool:
        """Return whether this rank is still writing files."""
        return self._writing is not None and self._writing.thread.is_alive()

    @property
    def under_way(self) -> bool:
        """Whether a save is under way (the same answer on every rank)."""
        return self._writing is not None

    def finish(self) -> None:
        """Collective. Wait for the save under way, if any, and make it a checkpoint. Raises as `save` does."""
        writing = self._writing
        if writing is None:
            return
        writing.thread.join()
        self._writing = None
        self._raise_if_any(writing.failure, writing.partial)
        parts: list[Files] = all_objects(writing.files)
        failure = None
        if rank() == 0:
            files = {name: item for part in parts for name, item in part.items()}
            final = step_folder(self._checkpoints, writing.snapshot.state.step)
            failure = _attempt(lambda: _publish(writing.partial, final, files), final)
        self._raise_if_any(failure, writing.partial)
        if rank() == 0:
            self._retire()
        barrier()

    def close(self) -> None:
        """Wait until retired checkpoints are gone."""
        if self._removal is not None:
            self._removal.join()

    def is_best(self, judgement: dict[str, float]) -> bool:
        """Collective. Return whether a judgement beats every saved one. Raises ConfigError when it has no such metric."""
        metric = self._retention.metric
        if not judgement:
            return False
        if metric not in judgement:
            raise ConfigError(
                f"validation.best_metric '{metric}' cannot be measured on the validation split (no labels?); measured: "
                f"{', '.join(sorted(judgement))}: set one of them, then --resume"
            ).on_all_ranks()
        if rank() != 0:
            return bool(from_rank_zero(None))
        saved = [value for value, _ in scored_checkpoints(self._checkpoints, metric)]
        if self._writing is not None:
            saved.append(self._writing.snapshot.state.judgement.get(metric, float("-inf")))
        return bool(from_rank_zero(judgement[metric] > max(saved, default=float("-inf"))))

    def _write(self) -> None:
        """Write this rank's files (in its own thread)."""
        writing = self._writing
        assert writing is not None
        writing.failure = _attempt(lambda: self._write_files(writing), writing.partial)

    def _write_files(self, writing: _Writing) -> None:
        for name, value in writing.snapshot.files:
            path = writing.partial / name
            digest = storage.write_torch(value, str(path))
            writing.files[name] = {"bytes": path.stat().st_size, "sha256": digest}
        if writing.snapshot.weights is None:
            return
        self._export(writing.snapshot.weights, writing.partial / "model")
        writing.snapshot.state.write(writing.partial / "state.json")
        _flush(self._checkpoints.parent / METRICS)  # a resume from here must find the steps that led here
        for path in [*sorted((writing.partial / "model").rglob("*")), writing.partial / "state.json"]:
            if path.is_file():
                name = str(path.relative_to(writing.partial))
                writing.files[name] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}

    def _retire(self) -> None:
        self.close()
        kept = self._retention
        refresh_best(self._checkpoints, kept.metric)
        folders = retire(self._checkpoints, keep=kept.keep, keep_best=kept.keep_best, metric=kept.metric)
        self._removal = threading.Thread(target=remove, args=(folders,), name="msvl-remove")
        self._removal.start()

    def _check_lease(self) -> None:
        """Collective. Raise SupersededError on every rank when a newer attempt has the run folder."""
        if from_rank_zero(rank() == 0 and self._lease.lost()):
            raise self._lease.error()

    def _raise_if_any(self, failure: str | None, partial: Path) -> None:
        """Collective. Raise on every rank when one has failed; who has lost the folder fails because it was taken away."""
        message = first_message(failure)
        if message is None:
            return
        self._check_lease()
        if rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        barrier()
        raise CheckpointError(
            f"the checkpoint was not saved, older ones are untouched: {message}; free space, then --resume"
        ).on_all_ranks()


def _flush(path: Path) -> None:
    """Bring what was written to a file onto the disk; nothing where there is no such file."""
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _make_empty(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "engine").mkdir(parents=True)
    (partial / "rng").mkdir()


def _publish(partial: Path, final: Path, files: Files) -> None:
    with open(partial / MARKER, "w", encoding="utf-8") as stream:
        json.dump({"files": files}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    if final.exists():  # a folder that lost its marker: half removed
        shutil.rmtree(final)
    os.rename(partial, final)
    descriptor = os.open(final.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _attempt(action: Callable[[], object], path: Path) -> str | None:
    """Run `action` on this rank; return why it failed instead of leaving the other ranks alone in a collective."""
    try:
        action()
    except (OSError, RuntimeError, ValueError) as error:
        return storage.explain_write_error(str(getattr(error, "filename", None) or path), error)
    except Exception as error:
        # safetensors raises its own class for a full disk.
        if type(error).__module__.split(".")[0] != "safetensors_rust" and "SafetensorError" not in type(error).__name__:
            raise
        return storage.explain_write_error(str(path), error)
    return None
