"""A block file: the bytes, then a footer of checksums, checked piece by piece as they are first read."""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from msvl.data.checksum import crc32

PIECE = 1 << 16
"""Bytes per checksum: small enough that the first read of a record checks little else."""
END = struct.Struct("<QI4s")
"""Number of the block's bytes, checksum of the checksums, magic."""
MAGIC = b"MSB1"
MAX_OPEN = 128
"""Blocks that a process holds open: a stream reads from 64 lanes at once."""
SWEEP_SECONDS = 2.0
"""How often a process lets go of blocks that others evicted."""
TOUCH_SECONDS = 5.0
"""Use is noted in the file's time at most this often: the order of eviction needs no more."""


class DamagedBlock(Exception):
    """A block file is cut or its bytes are not those written."""


class BlockFile:
    """An open block file. Stays readable after its removal by another process. Raises FileNotFoundError."""

    def __init__(self, path: Path) -> None:
        """Open it and read the footer. Raises DamagedBlock when that is cut or wrong."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._touched = 0.0
        total = os.fstat(self._descriptor).st_size
        if total < END.size:
            raise DamagedBlock(f"{total} bytes are no block")
        self._size, checksum, magic = END.unpack(self._pread(total - END.size, END.size))
        pieces = -(-self._size // PIECE)
        if magic != MAGIC or total != self._size + 4 * pieces + END.size:
            raise DamagedBlock(f"its {total} bytes do not end in a footer")
        sums = self._pread(self._size, 4 * pieces)
        if crc32(sums) != checksum:
            raise DamagedBlock("its footer has changed")
        self._sums = struct.unpack(f"<{pieces}I", sums)
        self._checked = bytearray(pieces)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @property
    def removed(self) -> bool:
        """Whether it has been evicted: its space comes back only when the last reader closes it."""
        return os.fstat(self._descriptor).st_nlink == 0

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes. Raises DamagedBlock when they are missing or changed."""
        if offset + size > self._size:
            raise DamagedBlock(f"it has {self._size} bytes, {offset + size} are needed")
        first, last = offset // PIECE, (offset + size - 1) // PIECE
        if self._checked.find(0, first, last + 1) < 0:
            return self._pread(offset, size)
        start, end = first * PIECE, min((last + 1) * PIECE, self._size)
        data = self._pread(start, end - start)
        for piece in range(first, last + 1):
            low = (piece - first) * PIECE
            if crc32(data[low : low + PIECE]) != self._sums[piece]:
                raise DamagedBlock(f"its bytes from {piece * PIECE} on have changed")
            self._checked[piece] = 1
        return data[offset - start : offset - start + size]

    def touch(self) -> None:
        """Note in the file's time that it is in use."""
        now = time.time()
        if now - self._touched >= TOUCH_SECONDS:
            self._touched = now
            # A folder shared by users: only the owner may, and the block is but evicted earlier.
            with suppress(PermissionError):
                os.utime(self._descriptor)

    def _pread(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise DamagedBlock("it is cut")
        return data


class OpenBlocks:
    """A process's open blocks, least recently used first. No lock, as in `LocalStore`: the worst is one opened twice."""

    def __init__(self) -> None:
        self._files: dict[str, BlockFile] = {}
        self._swept = 0.0

    def get(self, path: Path) -> BlockFile:
        """Return a block. Raises FileNotFoundError, DamagedBlock or OSError."""
        name = path.name
        file = self._files.pop(name, None) or BlockFile(path)
        self._files[name] = file
        now = time.monotonic()
        if now - self._swept > SWEEP_SECONDS:
            self._swept = now
            for old, held in list(self._files.items()):
                if held.removed:
                    self._files.pop(old, None)
        if len(self._files) > MAX_OPEN:
            self._files.pop(next(iter(list(self._files))), None)
        return file

    def drop(self, name: str) -> None:
        """Forget a block."""
        self._files.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        self._files.clear()


def encode_footer(block: bytes) -> bytes:
    """Return what is written behind a block."""
    sums = [crc32(block[start : start + PIECE]) for start in range(0, len(block), PIECE)]
    packed = struct.pack(f"<{len(sums)}I", *sums)
    return packed + END.pack(len(block), crc32(packed), MAGIC)
