"""Read a whole packed set and name what is damaged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.images import decode_jpeg
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences


@dataclass(frozen=True)
class Fault:
    """Something damaged: a shard (empty key) or one of its samples."""

    shard: str
    key: str
    reason: str


def verify(path: Path) -> list[Fault]:
    """Compare every shard with its SHA-256 and read every sample of those that differ.

    Raises DataError when the manifest or a shard is missing.
    """
    try:
        packed = PackedSet.open(path)
    except DataError:
        packed = PackedSet.open(path, check_sizes=False)
    faults = []
    for shard in tqdm(packed.manifest["shards"], unit="shard", desc=f"verifying {path}"):
        file = packed.path / shard["split"] / shard["file"]
        if not file.is_file():
            faults.append(Fault(str(file), "", "is missing"))
            continue
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != shard["sha256"]:
            faults.append(Fault(str(file), "", "its bytes are not those that were packed"))
            faults += _sample_faults(packed, shard["split"], shard["file"])
    return faults


def _sample_faults(packed: PackedSet, split: str, name: str) -> list[Fault]:
    index = packed.split(split)
    reader = SampleReader(index)
    number = index.shard_names.index(name)
    faults = []
    for row in range(len(index)):
        if index.shards[row] != number:
            continue
        try:
            usable_sentences(reader.meta(row), ReportConfig())
            decode_jpeg(reader.image(row))
        except (ValueError, KeyError, TypeError) as error:
            faults.append(Fault(reader.shard(row), reader.key(row), str(error)))
    reader.close()
    return faults
