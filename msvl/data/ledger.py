"""What a run has read, step by step: its plan and its fills, from the run folder and the sets' indexes. No shard is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvl.config.errors import CheckpointError, DataError
from msvl.data.fills import read_fills
from msvl.data.history import current_fingerprint, past_indexes
from msvl.data.index import SplitIndex
from msvl.data.packed import PackedSet
from msvl.data.plan import Located
from msvl.data.run_data import RunData
from msvl.data.storage import open_location
from msvl.data.subset import subset_digest
from msvl.data.training_data import plan_of

CHUNK = 1 << 20
"""Positions told at once."""


@dataclass(frozen=True)
class Entry:
    """One place of a global batch."""

    place: int
    """p in 0 ... B - 1; rank r of W read those with p = r mod W."""
    source: str
    """Path or URL of the set."""
    key: str
    filled: int
    """0 for the planned sample, else which substitute it is."""


class Ledger:
    """The ledger of a run folder. Steps are counted as in metrics.jsonl: the first is 1."""

    def __init__(self, run: Path) -> None:
        """Read plan and fills. Raises CheckpointError for a damaged run folder, DataError when a set is gone."""
        self._run_data = RunData.read(run)
        data = self._run_data.data
        self.global_batch = self._run_data.global_batch
        self.paths = tuple(data.mix or {data.path: 1.0})
        self.indexes = tuple(
            _index_as_of(path, item["manifest"], data.train_split, self._run_data)
            for path, item in zip(self.paths, self._run_data.state["mix"], strict=True)
        )
        if data.subset and subset_digest(data.subset) != self._run_data.state.get("subset"):
            raise DataError(f"{data.subset} is not the list that {run} has read: put that one back")
        weights = [item["weight"] for item in self._run_data.state["mix"]]
        self.plan = plan_of(self.indexes, weights, data, self._run_data.seed)
        self.fills = read_fills(run)

    def batch(self, step: int) -> list[Entry]:
        """Return the global batch of a step. Raises DataError for a step below 1."""
        if step < 1:
            raise DataError(f"--step {step}: steps are counted from 1, as in metrics.jsonl")
        begin = (step - 1) * self.global_batch
        located = self._read(begin, begin + self.global_batch)
        entries = []
        for place, (source, row) in enumerate(zip(located.sources.tolist(), located.rows.tolist(), strict=True)):
            fill = self.fills.get(begin + place)
            key = self.indexes[source].key(row)
            entries.append(Entry(place, self.paths[source], key, fill.attempt if fill else 0))
        return entries

    def times_read(self, steps: int) -> list[np.ndarray]:
        """Return how often each sample was read in the first `steps` steps: per source [samples] int64."""
        counts = [np.zeros(len(index), dtype=np.int64) for index in self.indexes]
        for _, located in self._pieces(steps):
            for source, count in enumerate(counts):
                rows = located.rows[located.sources == source]
                count += np.bincount(rows, minlength=len(count))
        return counts

    def steps_of(self, rows: list[np.ndarray], steps: int) -> np.ndarray:
        """Return the steps, among the first `steps`, that read any of these rows (given per source), ascending."""
        found = []
        for begin, located in self._pieces(steps):
            hit = np.zeros(len(located.rows), dtype=bool)
            for source, wanted in enumerate(rows):
                hit |= (located.sources == source) & np.isin(located.rows, wanted)
            found.append((np.flatnonzero(hit) + begin) // self.global_batch + 1)
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)

    def _pieces(self, steps: int) -> Iterator[tuple[int, Located]]:
        end = steps * self.global_batch
        for begin in range(0, end, CHUNK):
            yield begin, self._read(begin, min(begin + CHUNK, end))

    def _read(self, begin: int, end: int) -> Located:
        located = self.plan.locate(np.arange(begin, end))
        for position, fill in self.fills.items():
            if begin <= position < end:
                place = position - begin
                filled = self.plan.substitute(position, fill.attempt)
                located.sources[place], located.epochs[place], located.rows[place] = filled
        return located


def newest_step(run: Path) -> int:
    """Return the newest step that a checkpoint of a run holds, 0 without one."""
    return max((step for step, _ in checkpoints(run)), default=0)


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of a run's checkpoints, oldest first."""
    folders = sorted((run / "checkpoints").glob("step-*"))
    return [(int(folder.name.removeprefix("step-")), folder) for folder in folders]


def run_of(checkpoint: Path) -> tuple[Path, int]:
    """Return run folder and steps of a checkpoint folder, `best` included. Raises CheckpointError when it is none."""
    folder = checkpoint.resolve()
    if folder.parent.name != "checkpoints" or not folder.name.startswith("step-") or not folder.is_dir():
        raise CheckpointError(
            f"{checkpoint} is no checkpoint: name a folder such as runs/NAME/checkpoints/step-00001000"
        )
    return folder.parent.parent, int(folder.name.removeprefix("step-"))


def rows_of(index: SplitIndex, names: list[str]) -> np.ndarray:
    """Return the rows whose key, study or patient has one of these names."""
    records: Any = index.records
    hashes = np.array([int(name, 16) for name in names if _is_hash(name)], dtype=np.uint64)
    hit = np.isin(records["study"], hashes) | np.isin(records["patient"], hashes)
    if records["key"].dtype.kind == "S":
        hit |= np.isin(records["key"], np.array([name.encode() for name in names]))
    else:
        hit |= np.isin(records["key"], hashes)
    return np.flatnonzero(hit)


def _is_hash(name: str) -> bool:
    return len(name) == 16 and all(character in "0123456789abcdef" for character in name)


def _index_as_of(path: str, fingerprint: str, split: str, run_data: RunData) -> SplitIndex:
    data = run_data.data
    location = open_location(path, data.remote)
    if current_fingerprint(location) != fingerprint:
        return past_indexes(location, fingerprint)[split]
    return PackedSet.open(path, max_bad_share=1.0, remote=data.remote, cache=data.cache).split(split)
