"""Read a whole packed set and name what is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from msvl.data.config import ReportConfig
from msvl.data.images import decode_image
from msvl.data.index import SplitIndex
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.set_folder import TOKENS
from msvl.data.storage import Location, RemoteConfig, StorageError
from msvl.data.token_store import ABOUT
from msvl.data.worker_pool import WorkerPool, end_with_parent, in_order

PIECE = 1 << 24
"""Bytes read at once."""
ALONE = 1 << 28
"""Bytes of shards up to which starting processes takes longer than it saves."""


@dataclass(frozen=True)
class Fault:
    """Something damaged: a file of the set (empty key) or one of its samples."""

    shard: str
    """Path or URL of the file."""
    key: str
    reason: str


def verify(
    path: str | Path, remote: RemoteConfig | None = None, *, workers: int = 1, progress: bool = True
) -> list[Fault]:
    """Compare every file with its SHA-256 and read every sample of the shards that differ (of tars used in place: of all).

    Args:
        path: Packed set: a folder or URL.
        remote: Attempts and time-outs of a remote set.
        workers: Processes, for sets of more than `ALONE` bytes.
        progress: Whether to show a bar.

    Raises:
        DataError: manifest or index are missing or damaged.
    """
    packed = PackedSet.open(path, max_bad_share=1.0, remote=remote)
    faults = _file_faults(packed)
    indexes = [packed.split(split) for split in SPLITS if packed.counts(split)["samples"]]
    files: dict[str, list[tuple[int, int]]] = {}
    for which, index in enumerate(indexes):
        for number in range(len(index.shards)):  # tars used in place may hold samples of several splits
            files.setdefault(index.shard_url(number), []).append((which, number))
    pause = 0.1 if sys.stderr.isatty() else 10.0  # a log is no terminal
    with ExitStack() as stack:
        found: Iterable[list[Fault]] = map(partial(_shard_faults, indexes, packed.has_reports), files.values())
        if workers > 1 and sum(shard.bytes for index in indexes for shard in index.shards) > ALONE:
            pool = stack.enter_context(WorkerPool(workers, _start_worker, (indexes, packed.has_reports, os.getpid())))
            found = in_order(pool, _in_worker, files.values(), ahead=4 * workers)
        for some in tqdm(
            found, total=len(files), unit="shard", desc="verifying", disable=not progress, mininterval=pause
        ):
            faults += some
    return faults


_WORKER: dict[str, Any] = {}
"""Set once per worker process by its initializer: the indexes, too large to send with every shard."""


def _start_worker(indexes: Sequence[SplitIndex], has_reports: bool, parent: int) -> None:
    end_with_parent(parent)
    _WORKER.update(indexes=indexes, has_reports=has_reports)


def _in_worker(entries: Sequence[tuple[int, int]]) -> list[Fault]:
    return _shard_faults(_WORKER["indexes"], _WORKER["has_reports"], entries)


def _shard_faults(indexes: Sequence[SplitIndex], has_reports: bool, entries: Sequence[tuple[int, int]]) -> list[Fault]:
    """Return what is wrong with a file that is listed as these (index, shard of it)."""
    index, number = indexes[entries[0][0]], entries[0][1]
    shard = index.shards[number]
    damage = _compare(index.shard_location(number), shard.bytes, shard.sha256)
    faults = [Fault(index.shard_url(number), "", damage)] if damage else []
    for which, number in entries:
        # Nobody has decoded the images of tars used in place.
        if damage or indexes[which].caption is not None:
            faults += _sample_faults(indexes[which], number, has_reports=has_reports)
    return faults


def _file_faults(packed: PackedSet) -> list[Fault]:
    """Compare the files besides shards, token ids that were made after packing included."""
    files = dict(packed.manifest["files"])
    if packed.location.is_local:
        for about in sorted((packed.path / TOKENS).glob(f"*/{ABOUT}")):
            made = json.loads(about.read_text(encoding="utf-8"))["files"]
            files |= {f"{TOKENS}/{about.parent.name}/{name}": file for name, file in made.items()}
    faults = []
    for name, file in files.items():
        location = packed.location.join(name)
        reason = _compare(location, file["bytes"], file["sha256"])
        faults += [Fault(str(location), "", reason)] if reason else []
    return faults


def _compare(location: Location, size: int, sha256: str) -> str:
    """Return what is wrong with a file; empty when it is the packed one."""
    digest = hashlib.sha256()
    try:
        found = location.size()
        if found != size:
            return f"has {found:,} bytes instead of {size:,}"
        for start in range(0, size, PIECE):
            digest.update(location.read_range(start, min(PIECE, size - start)))
    except StorageError as error:
        return "is missing" if error.kind == "missing" else f"cannot be read ({error})"
    return "" if digest.hexdigest() == sha256 else "its bytes are not those that were packed"


def _sample_faults(index: SplitIndex, shard: int, *, has_reports: bool) -> list[Fault]:
    reader = SampleReader(index)
    faults = []
    for row in index.shard_rows(shard):
        try:
            meta = reader.meta(row)
            if has_reports:
                usable_sentences(meta, ReportConfig())
            decode_image(reader.image(row))
            reader.mask(row)
        except (ValueError, KeyError, TypeError) as error:
            faults.append(Fault(reader.shard(row), reader.key(row), str(error)))
    reader.close()
    return faults
