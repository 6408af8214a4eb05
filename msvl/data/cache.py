"""A node's cache of remote blocks: fetched once for all ranks and workers, kept under a size limit.

Everything that processes share is in the folder: block files (written aside, renamed, never changed), and lock files. `flock`
is given back by the kernel when its holder dies, so a killed process blocks nobody. The folder must be on a local disk.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, PositiveFloat, model_validator

from msvl.config.base import Config
from msvl.data.cache_block import DamagedBlock, OpenBlocks, encode_footer
from msvl.data.cache_space import CacheSpace, release
from msvl.data.storage import Location, ObjectInfo

logger = logging.getLogger(__name__)
LOCKS = 1024
"""Lock files: a fixed number, so that none is ever removed under a waiter; blocks share them by hash."""
PAUSE_SECONDS = 0.02
"""Between two looks at a block that another process fetches."""
RETRY_SECONDS = 60.0
"""How long a folder that could not be written to is left alone."""


class CacheConfig(Config):
    """Where a node keeps what it read from remote stores."""

    folder: str
    """On a local disk of the node, the same for all its processes."""
    max_gb: PositiveFloat = 100.0
    """Size limit of the folder in 10^9 bytes; the least recently used blocks make room."""
    block_mb: PositiveFloat = 16.0
    """What is fetched at once, in 10^6 bytes (AWS advises ranges of 8 to 16 MB)."""
    wait_seconds: float = Field(300.0, ge=0)
    """How long to wait for a block that another process fetches before reading past the cache."""

    @model_validator(mode="after")
    def _room(self) -> CacheConfig:
        if self.max_gb * 1000 < 2 * self.block_mb:
            raise ValueError(
                f"max_gb={self.max_gb:g} holds fewer than two blocks of block_mb={self.block_mb:g}: raise it"
            )
        return self


@dataclass
class CacheCounts:
    """What this process did, in blocks where no unit is named."""

    hits: int = 0
    """Found in the folder, fetched by this process before or by another."""
    misses: int = 0
    """Fetched by this process."""
    bytes_fetched: int = 0
    """Read from the remote store, past the cache included."""
    bytes_served: int = 0
    """Returned to the caller."""
    waits: int = 0
    """Waited for while another process fetched."""
    direct: int = 0
    """Read past the cache: no room on the disk, or the wait took too long."""
    damaged: int = 0
    """Found truncated or with a wrong checksum, and fetched again."""


class BlockCache:
    """Reads ranges of remote objects through the node's folder. Local locations pass straight through.

    A folder that cannot be written to costs a warning and requests, not the run. One object may be used by several threads,
    survives a fork and can be pickled; counts are per process.
    """

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.counts = CacheCounts()
        self._block_bytes = int(config.block_mb * 1e6)
        self._space = CacheSpace(Path(config.folder), int(config.max_gb * 1e9))
        self._infos: dict[str, ObjectInfo] = {}
        self._open = OpenBlocks()
        self._unwritable_until = 0.0
        self._warned = False

    def __reduce__(self) -> tuple[type[BlockCache], tuple[CacheConfig]]:
        """Travel without descriptors."""
        return type(self), (self.config,)

    def read_range(self, location: Location, offset: int, size: int, info: ObjectInfo | None = None) -> bytes:
        """Return exactly `size` bytes, fetching only the blocks that they touch.

        Args:
            location: A file.
            offset: First byte.
            size: Number of bytes.
            info: Size and tag (a manifest's SHA-256, say) where they are known: saves one request per object and process.

        Raises:
            StorageError: as `Location.read_range`.
        """
        if location.is_local or size == 0:
            return location.read_range(offset, size)
        info = info or self._info(location)
        if offset + size > info.size:
            # The store's own words for a range past the end; also right if the object has grown since.
            return self._direct(location, offset, size)
        first, last = offset // self._block_bytes, (offset + size - 1) // self._block_bytes
        parts = []
        for number in range(first, last + 1):
            start = number * self._block_bytes
            low, high = max(offset, start), min(offset + size, start + self._block_bytes)
            parts.append(self._read_block(location, info, number, low - start, high - low))
        self.counts.bytes_served += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close all block files."""
        self._open.clear()

    def _info(self, location: Location) -> ObjectInfo:
        name = str(location)
        if name not in self._infos:
            self._infos[name] = location.info()
        return self._infos[name]

    def _read_block(self, location: Location, info: ObjectInfo, number: int, offset: int, size: int) -> bytes:
        name = block_name(str(location), info, self._block_bytes, number)
        start = number * self._block_bytes
        try:
            data = self._look(name, offset, size)
            if data is None and time.monotonic() >= self._unwritable_until:
                with self._turn(name) as mine:
                    # Another process may have fetched it while this one waited.
                    data = self._look(name, offset, size)
                    if data is None and mine:
                        block = self._fetch(location, start, min(self._block_bytes, info.size - start))
                        self._keep(name, block)
                        return block[offset : offset + size]
        except CacheFolderError as error:
            self._give_up(error)
            data = None
        if data is None:
            return self._direct(location, start + offset, size)
        self.counts.hits += 1
        return data

    def _look(self, name: str, offset: int, size: int) -> bytes | None:
        """Return bytes of a block in the folder; None if it is not there, or damaged and hence removed."""
        path = self._space.path(name)
        try:
            file = self._open.get(path)
            data = file.read(offset, size)
            file.touch()
        except FileNotFoundError:
            return None
        except (DamagedBlock, OSError) as error:
            self._open.drop(name)
            if isinstance(error, OSError) and error.errno != errno.EIO:
                raise CacheFolderError(error) from error
            self.counts.damaged += 1
            logger.warning("cache block %s is damaged (%s) and is fetched again", path, error)
            self._space.remove(name)
            return None
        return data

    @contextmanager
    def _turn(self, name: str) -> Iterator[bool]:
        """Hold the lock of a block. Yields False when the wait took too long, or the block has come meanwhile."""
        deadline = time.monotonic() + self.config.wait_seconds
        waited = False
        try:
            descriptor = self._space.open_lock(int(name[:8], 16) % LOCKS)
        except OSError as error:
            raise CacheFolderError(error) from error
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not waited:
                        self.counts.waits += 1
                        waited = True
                    if time.monotonic() > deadline or self._space.path(name).exists():
                        yield False
                        return
                    time.sleep(PAUSE_SECONDS)
                    continue
                yield True
                return
        finally:
            release(descriptor)

    def _fetch(self, location: Location, start: int, size: int) -> bytes:
        block = location.read_range(start, size)
        self.counts.misses += 1
        self.counts.bytes_fetched += size
        return block

    def _keep(self, name: str, block: bytes) -> None:
        try:
            self._space.write(name, block, encode_footer(block))
        except OSError as error:
            # The block is in memory: what fails is only keeping it.
            self._give_up(error)

    def _direct(self, location: Location, offset: int, size: int) -> bytes:
        data = location.read_range(offset, size)
        self.counts.direct += 1
        self.counts.bytes_fetched += size
        return data

    def _give_up(self, error: OSError | CacheFolderError) -> None:
        self._unwritable_until = time.monotonic() + RETRY_SECONDS
        if self._warned:
            return
        self._warned = True
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        cure = (
            "free space there or lower data.cache.max_gb"
            if full
            else "name a folder of this node that can be written to"
        )
        logger.warning(
            "cache %s cannot be written to (%s): reading past it, one request per read: %s",
            self.config.folder,
            error,
            cure,
        )


class CacheFolderError(Exception):
    """The folder cannot be used. Never leaves this module."""


def block_name(url: str, info: ObjectInfo, block_bytes: int, number: int) -> str:
    """Return the file name of a block: a hash of what it holds, so that a changed object has other blocks."""
    key = "\n".join([url, str(info.size), info.tag, str(block_bytes), str(number)])
    return hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
