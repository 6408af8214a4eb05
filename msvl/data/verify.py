"""Read a whole packed set and name what is damaged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from msvl.data.config import ReportConfig
from msvl.data.images import decode_image
from msvl.data.index import SplitIndex
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.storage import Location, RemoteConfig, StorageError

PIECE = 1 << 24
"""Bytes read at once."""


@dataclass(frozen=True)
class Fault:
    """Something damaged: a file of the set (empty key) or one of its samples."""

    shard: str
    """Path or URL of the file."""
    key: str
    reason: str


def verify(path: str | Path, remote: RemoteConfig | None = None) -> list[Fault]:
    """Compare every file with its SHA-256 and read every sample of the shards that differ (of tars used in place: of all).

    Raises DataError when manifest or index are missing or damaged.
    """
    packed = PackedSet.open(path, max_bad_share=1.0, remote=remote)
    faults = []
    for name, file in packed.manifest["files"].items():
        reason = _compare(packed.location.join(name), file["bytes"], file["sha256"])
        faults += [Fault(str(packed.location.join(name)), "", reason)] if reason else []
    compared: dict[str, str] = {}
    for index in (packed.split(split) for split in SPLITS if packed.counts(split)["samples"]):
        for number, shard in enumerate(tqdm(index.shards, unit="shard", desc=f"verifying {index.split}")):
            url = index.shard_url(number)
            if url not in compared:  # tars used in place may hold samples of several splits
                compared[url] = _compare(index.shard_location(number), shard.bytes, shard.sha256)
                faults += [Fault(url, "", compared[url])] if compared[url] else []
            # Nobody has decoded the images of tars used in place.
            if compared[url] or index.caption is not None:
                faults += _sample_faults(index, number, has_reports=packed.has_reports)
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
