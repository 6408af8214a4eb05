"""Ranges of a split's shards: positioned reads of local files, `Location` and the node's cache for remote ones."""

from __future__ import annotations

import os
from typing import Any

from msvl.data.index import SplitIndex
from msvl.data.storage import Location, ObjectInfo, StorageError

MAX_OPEN = 128
"""Local shards kept open: a stream reads from 64 lanes at once, and the usual limit of a process is 1,024."""


class ShardFault(ValueError):
    """A shard cannot be read at all: every sample of it is lost, and none is asked for again by this process."""

    def __init__(self, reason: str, shard: int) -> None:
        super().__init__(reason)
        self.shard = shard
        """Number of the shard in its split."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes."""
        return type(self), (str(self), self.shard)


class ShardFiles:
    """One per process: open files do not travel."""

    def __init__(self, index: SplitIndex) -> None:
        self._index = index
        self._local = [index.shard_location(number).is_local for number in range(len(index.shards))]
        self._files: dict[int, int] = {}
        self._places: dict[int, Location] = {}
        self._broken: dict[int, str] = {}

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes of a shard.

        Raises ShardFault when the shard cannot be read, ValueError when it ends before.
        """
        descriptor = self._files.get(shard)
        if descriptor is None:
            if shard in self._broken:
                raise ShardFault(self._broken[shard], shard)
            if not self._local[shard]:
                return self._read_remote(shard, offset, size)
            descriptor = self._open(shard)
        try:
            data = os.pread(descriptor, size, offset)
        except OSError as error:
            raise self._break(shard, f"the shard cannot be read ({error.strerror})") from error
        if len(data) != size:
            raise ValueError(f"the shard ends inside it ({len(data):,} of {size:,} bytes)")
        return data

    def close(self) -> None:
        """Close all files and try broken shards again."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._places.clear()
        self._broken.clear()
        self._index.close()

    def _open(self, shard: int) -> int:
        if len(self._files) >= MAX_OPEN:
            os.close(self._files.pop(next(iter(self._files))))
        try:
            descriptor = os.open(self._index.shard_path(shard), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._break(shard, f"the shard cannot be opened ({error.strerror})") from error
        self._files[shard] = descriptor
        return descriptor

    def _read_remote(self, shard: int, offset: int, size: int) -> bytes:
        if shard not in self._places:
            self._places[shard] = self._index.shard_location(shard)
        place, cache = self._places[shard], self._index.cache
        try:
            if cache is not None:
                known = self._index.shards[shard]
                try:
                    # What the manifest knows saves a question per shard and process.
                    return cache.read_range(place, offset, size, ObjectInfo(known.bytes, known.sha256))
                except StorageError as error:
                    if error.kind != "short":
                        raise
                    # The block is cut; this sample may lie before the cut.
            return place.read_range(offset, size)
        except StorageError as error:
            if error.kind == "short":
                raise ValueError(f"the shard ends inside it ({error})") from error
            raise self._break(shard, str(error)) from error

    def _break(self, shard: int, reason: str) -> ShardFault:
        self._broken[shard] = reason
        return ShardFault(reason, shard)
