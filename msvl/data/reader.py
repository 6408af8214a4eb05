"""Samples by index: one positioned read per member, no tar parsing, no state but open files."""

from __future__ import annotations

import os
from typing import Any

from msvl.config.errors import DataError
from msvl.data.packed import MEMBERS, SplitIndex
from msvl.data.sample import parse_sample

JPG, JSON, MASK = (MEMBERS.index(name) for name in ("jpg", "json", "mask.png"))


class SampleReader:
    """Reads members of a split's samples. One per process: open files do not travel."""

    def __init__(self, index: SplitIndex) -> None:
        self.index = index
        self._files: dict[int, int] = {}

    def key(self, number: int) -> str:
        """Return a sample's key."""
        return str(self.index.keys[number])

    def shard(self, number: int) -> str:
        """Return the path of a sample's shard."""
        return str(self.index.shard_path(int(self.index.shards[number])))

    def image(self, number: int) -> bytes:
        """Return the JPEG's bytes. Raises ValueError when the shard ends before them."""
        return self._read(number, JPG)

    def meta(self, number: int) -> dict[str, Any]:
        """Return the parsed JSON. Raises ValueError when it is damaged."""
        return parse_sample(self._read(number, JSON))

    def mask(self, number: int) -> bytes | None:
        """Return the mask's bytes, or None when the sample has none."""
        return self._read(number, MASK) if self.index.offsets[number, MASK] >= 0 else None

    def close(self) -> None:
        """Close all files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _read(self, number: int, member: int) -> bytes:
        offset, size = int(self.index.offsets[number, member]), int(self.index.sizes[number, member])
        if offset < 0:
            raise ValueError(f"it has no {MEMBERS[member]}")
        data = os.pread(self._descriptor(int(self.index.shards[number])), size, offset)
        if len(data) != size:
            raise ValueError(f"the shard ends inside its {MEMBERS[member]} ({len(data)} of {size} bytes)")
        return data

    def _descriptor(self, shard: int) -> int:
        if shard not in self._files:
            path = self.index.shard_path(shard)
            try:
                self._files[shard] = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise DataError(
                    f"shard {path} cannot be opened ({error.strerror}): put it back, then --resume"
                ) from error
        return self._files[shard]
