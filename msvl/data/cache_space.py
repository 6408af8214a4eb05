"""The folder of a cache: names, lock files, room. The sum of all files stays under the limit at every moment."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from msvl.config.private import private_folder

BLOCKS, ASIDE, LOCKS, SPACE = "blocks", "aside", "locks", "space.lock"


class CacheSpace:
    """The folder. Every method may raise OSError; nothing here keeps state that processes would have to share."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def path(self, name: str) -> Path:
        """Return the path of a block."""
        return self._folder / BLOCKS / name

    def open_lock(self, number: int) -> int:
        """Return an open descriptor of a lock file. The folder is made on the way."""
        for part in (BLOCKS, ASIDE, LOCKS):
            private_folder(self._folder / part)
        return os.open(self._folder / LOCKS / f"{number:04d}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def write(self, name: str, block: bytes, footer: bytes) -> None:
        """Make room for a block and write it: aside, then renamed. Raises OSError when the disk is full or the limit too low."""
        size = len(block) + len(footer)
        aside = self._folder / ASIDE / f"{name}.{os.getpid()}-{threading.get_ident()}"
        try:
            with self._claim(aside, size) as stream:
                stream.write(block)
                stream.write(footer)
                stream.flush()
                # No fsync: a block that a power cut leaves half-written fails its checksums.
                os.replace(aside, self.path(name))
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(aside)
            raise

    def remove(self, name: str) -> None:
        """Remove a damaged block, if it is still there and this process may."""
        with suppress(OSError):
            os.unlink(self.path(name))

    def _claim(self, aside: Path, size: int) -> BinaryIO:
        """Make room and open the file aside, locked and at its full size, so that other writers count it."""
        with self._space_lock():
            self._make_room(size)
            stream = open(aside, "wb")  # noqa: SIM115  # the caller closes it
            try:
                # Tells others that its writer lives; it ends with the process.
                fcntl.flock(stream, fcntl.LOCK_EX)
                os.ftruncate(stream.fileno(), size)
            except OSError:
                stream.close()
                raise
        return stream

    @contextmanager
    def _space_lock(self) -> Iterator[None]:
        descriptor = os.open(self._folder / SPACE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            release(descriptor)

    def _make_room(self, size: int) -> None:
        """Evict the least recently used blocks until `size` more bytes fit. The space lock is held."""
        blocks = []
        total = size + self._aside_bytes()
        with os.scandir(self._folder / BLOCKS) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    blocks.append((status.st_mtime_ns, entry.path, status.st_size))
                    total += status.st_size
        for _, path, freed in sorted(blocks):
            if total <= self._max_bytes:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= freed
        if total > self._max_bytes:
            raise OSError(f"blocks being written fill its limit of {self._max_bytes / 1e9:g} GB")

    def _aside_bytes(self) -> int:
        """Return what living writers have claimed, and remove what killed ones left."""
        total = 0
        with os.scandir(self._folder / ASIDE) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    descriptor = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(entry.path)
                    except BlockingIOError:
                        total += os.fstat(descriptor).st_size
                    finally:
                        os.close(descriptor)
        return total


def release(descriptor: int) -> None:
    """Give back a lock. Closing alone would not, if a process forked meanwhile holds a copy of the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
