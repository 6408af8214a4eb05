"""Packed samples of a unit -> its shards, usually one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from msvl.data.index import record_type, study_starts
from msvl.data.pack_plan import Unit
from msvl.data.pack_record import Job, PackedSample
from msvl.data.partial import Dropped, UnitRecord
from msvl.data.set_folder import file_digest
from msvl.data.shard_writer import ShardWriter


def write_unit(folder: Path, unit: Unit, results: Iterable[PackedSample | Dropped], shard_bytes: int) -> UnitRecord:
    """Write a unit's shards, closing one before a study that would take it past `shard_bytes`.

    Results come in the order of the jobs; those of one study stay together.
    """
    dropped: list[Dropped] = []
    pixels = np.zeros(3, dtype=object)  # Python's integers: exact in any order
    shards: list[dict[str, Any]] = []
    records: list[np.ndarray] = []
    writer: ShardWriter | None = None
    (folder / unit.split).mkdir(exist_ok=True)
    for _, study in groupby(zip(unit.jobs, results, strict=True), key=lambda pair: pair[0].study):
        kept: list[tuple[Job, PackedSample]] = []
        for job, result in study:
            if isinstance(result, Dropped):
                dropped.append(result)
            else:
                kept.append((job, result))
                pixels += result.pixels
        size = sum(sample.bytes for _, sample in kept)
        if writer is not None and kept and writer.bytes + size > shard_bytes:
            _close(writer, unit, shards, records)
            writer = None
        for job, sample in kept:
            writer = writer or ShardWriter(folder / unit.split / _name(unit, len(shards)))
            writer.add(job, sample)
    if writer is not None:
        _close(writer, unit, shards, records)
    return UnitRecord(
        split=unit.split,
        number=unit.number,
        shards=tuple(shards),
        records=np.concatenate(records) if records else np.empty(0, record_type()),
        dropped=tuple(dropped),
        pixels=(pixels[0], pixels[1], pixels[2]),
    )


def _name(unit: Unit, part: int) -> str:
    """Return the name of a unit's shard: known before anything is packed, so that parts of a set fit together."""
    return f"shard-{unit.number:06d}{f'-{part}' if part else ''}.tar"


def _close(writer: ShardWriter, unit: Unit, shards: list[dict[str, Any]], records: list[np.ndarray]) -> None:
    found = writer.close()
    found["shard"] = len(shards)
    records.append(found)
    with open(writer.path, "rb") as stream:
        os.fsync(stream.fileno())
    shards.append(
        {
            "split": unit.split,
            "file": f"{unit.split}/{writer.path.name}",
            "samples": len(found),
            "studies": len(study_starts(found["study"])),
            "bytes": writer.path.stat().st_size,
            "sha256": file_digest(writer.path),
        }
    )
