"""Files of this machine: positioned reads through cached descriptors, writes aside and renamed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from msvl.data.storage.errors import CURES, Kind, StorageError
from msvl.data.storage.store import ObjectInfo, StorageCounts

MAX_OPEN = 128
"""Descriptors kept per process; the usual limit of a process is 1,024."""


class _OpenFile:
    """A descriptor that closes when its last user lets go, so that a thread's read survives eviction by another."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalStore:
    """Local file systems, NFS and the like included. A replaced file is seen after `close` or eviction.

    No lock guards the descriptors: one held by another thread during a fork would stay held in the child. Each step on the
    dictionary is atomic, and the worst of a race is a file opened twice.
    """

    def __init__(self) -> None:
        self.counts = StorageCounts()
        self._files: dict[str, _OpenFile] = {}

    def join(self, path: str, parts: tuple[str, ...]) -> str:
        """Return the path of something inside `path`."""
        return os.path.join(path, *parts)

    def show(self, path: str) -> str:
        """Return the path."""
        return path

    def info(self, path: str) -> ObjectInfo:
        """Return size and time of change of a file."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise _fault(path, error) from error
        if stat.S_ISDIR(status.st_mode):
            raise _fault(path, IsADirectoryError(errno.EISDIR, "it is a folder"))
        return ObjectInfo(status.st_size, str(status.st_mtime_ns))

    def read_bytes(self, path: str) -> bytes:
        """Return the whole file."""
        try:
            with open(path, "rb") as stream:
                return stream.read()
        except OSError as error:
            raise _fault(path, error) from error

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        try:
            try:
                # Held by name: another thread may evict it during the read.
                file = self._open(path)
                data = os.pread(file.descriptor, size, offset)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                # NFS: the file was replaced on the server; its name leads to the new one.
                self._drop(path)
                file = self._open(path)
                data = os.pread(file.descriptor, size, offset)
            if len(data) != size:
                data = _finish(file, data, offset, size)
        except OSError as error:
            raise _fault(path, error, f" [{offset} + {size} bytes]") from error
        if len(data) != size:
            raise StorageError(
                f"{path} [{offset} + {size} bytes] ends after {len(data)} of them: {CURES['short']}", "short"
            )
        return data

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write aside, flush to the disk, rename."""
        self._replace(path, lambda stream: stream.write(data))

    def put_file(self, path: str, source: str) -> None:
        """Copy a file in the same way."""

        def copy(stream: BinaryIO) -> None:
            with open(source, "rb") as origin:
                shutil.copyfileobj(origin, stream, 1 << 20)

        self._replace(path, copy)

    def list(self, path: str) -> list[str]:
        """Return the sorted names inside a folder."""
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            raise _fault(path, error) from error

    def close(self) -> None:
        """Close all descriptors."""
        self._files.clear()

    def __reduce__(self) -> tuple[type[LocalStore], tuple[()]]:
        """Travel without descriptors."""
        return type(self), ()

    def _open(self, path: str) -> _OpenFile:
        # Taken out and put back: the dictionary's order is that of use.
        file = self._files.pop(path, None) or _OpenFile(path)
        self._files[path] = file
        if len(self._files) > MAX_OPEN:
            self._files.pop(next(iter(list(self._files))), None)
        return file

    def _drop(self, path: str) -> None:
        self._files.pop(path, None)

    def _replace(self, path: str, write: Callable[[BinaryIO], Any]) -> None:
        aside = f"{path}.{os.getpid()}-{threading.get_ident()}.part"
        try:
            with open(aside, "wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(aside, path)
        except OSError as error:
            if os.path.exists(aside):
                os.unlink(aside)
            raise _fault(path, error) from error
        self._drop(path)


def _finish(file: _OpenFile, data: bytes, offset: int, size: int) -> bytes:
    # One call returns at most 2 GiB, and network disks may return less than was asked.
    parts = [data]
    have = len(data)
    while have < size and parts[-1]:
        parts.append(os.pread(file.descriptor, size - have, offset + have))
        have += len(parts[-1])
    return b"".join(parts)


def _fault(path: str, error: OSError, span: str = "") -> StorageError:
    kinds: dict[int, Kind] = {errno.ENOENT: "missing", errno.ENOTDIR: "missing", errno.EACCES: "forbidden"}
    kind = kinds.get(error.errno or 0, "unavailable")
    cures = {
        errno.EACCES: "give this user the right to it",
        errno.ENOSPC: "free space on that disk",
        errno.EDQUOT: "raise the quota or free space",
        errno.EISDIR: "name a file in it",
        errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    }
    cure = cures.get(error.errno or 0, CURES["missing"] if kind == "missing" else "check that disk")
    # The error's own file may be the other side of a copy.
    subject = error.filename if isinstance(error.filename, str) and not error.filename.endswith(".part") else path
    return StorageError(f"{subject}{span}: {error.strerror or error}: {cure}", kind)
