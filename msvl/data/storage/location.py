"""One small interface over local paths and any fsspec URL (s3://, gs://, http(s)://, file://, plain path)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from msvl.config.errors import DataError
from msvl.data.storage.errors import StorageError
from msvl.data.storage.fsspec_store import FsspecStore
from msvl.data.storage.http_store import HttpStore
from msvl.data.storage.local_store import LocalStore
from msvl.data.storage.store import ObjectInfo, RemoteConfig, StorageCounts, Store


@dataclass(frozen=True)
class Location:
    """A file or folder in a store: cheap to make, to join and to pickle.

    All locations joined from one share its store, hence its open descriptors, connections and counts. It may be used by
    several threads and after a fork; a pickled one opens its own connections. Every method that touches the store raises
    StorageError: one sentence with the URL, the range, the attempts made, the last reason and the cure.
    """

    store: Store
    path: str
    """In the store's own form; may hold credentials of the URL. Show `str(location)`, never this."""

    def join(self, *parts: str) -> Location:
        """Return a location inside this one. Raises DataError for parts that lead out of it."""
        for part in parts:
            if part.startswith("/") or ".." in part.split("/"):
                raise DataError(f"{self}: '{part}' leads out of the folder: name files relative to it")
        return Location(self.store, self.store.join(self.path, parts))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return urlsplit(str(self)).path.rstrip("/").rpartition("/")[2] if not self.is_local else Path(self.path).name

    @property
    def is_local(self) -> bool:
        """Whether this is a file system of this machine: then `local_path` works and no cache is needed."""
        return isinstance(self.store, LocalStore)

    @property
    def local_path(self) -> Path:
        """The path on this machine. Raises DataError for remote ones."""
        if not self.is_local:
            raise DataError(f"{self} is not on a local disk, and this step needs one: copy it first")
        return Path(self.path)

    @property
    def counts(self) -> StorageCounts:
        """Requests, retries and bytes of the store in this process."""
        return self.store.counts

    def info(self) -> ObjectInfo:
        """Return size and tag of a file: one request on a remote store."""
        return self.store.info(self.path)

    def size(self) -> int:
        """Return the size of a file in bytes."""
        return self.info().size

    def exists(self) -> bool:
        """Return whether the file is there. A store that cannot be asked raises instead of answering no."""
        try:
            self.info()
        except StorageError as error:
            if error.kind == "missing":
                return False
            raise
        return True

    def read_bytes(self) -> bytes:
        """Return the whole file."""
        return self.store.read_bytes(self.path)

    def read_range(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset`; an error of kind `short` when the file ends before."""
        return self.store.read_range(self.path, offset, size)

    def write_bytes(self, data: bytes) -> None:
        """Write the whole file; readers see the old or the new one, never a part. Local folders must exist."""
        self.store.write_bytes(self.path, data)

    def put_file(self, source: str | os.PathLike[str]) -> None:
        """Copy a local file here; readers see the old or the new one, never a part."""
        self.store.put_file(self.path, os.fspath(source))

    def list(self) -> list[str]:
        """Return the sorted names directly inside this folder. Plain HTTP has no listing and raises."""
        return self.store.list(self.path)

    def close(self) -> None:
        """Give back the store's descriptors and connections; it opens new ones when used again."""
        self.store.close()

    def __str__(self) -> str:
        return self.store.show(self.path)

    def __repr__(self) -> str:
        return f"Location({self})"


def open_location(
    url: str | os.PathLike[str], remote: RemoteConfig | None = None, options: Mapping[str, Any] | None = None
) -> Location:
    """Return the location of a path or URL; nothing is read yet.

    Args:
        url: A plain path, file://, http(s)://, or whatever fsspec knows (s3://, gs://, az://, chained ones).
        remote: Attempts and time-outs of remote stores.
        options: Keywords of fsspec's file system, e.g. {"anon": True}; for HTTP only {"headers": {...}}. Credentials
            belong in the environment, as docs/storage.md says.

    Raises:
        StorageError: the scheme is unknown or its package is not installed.
    """
    text = os.fspath(url)
    remote = remote or RemoteConfig()
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme == "file":
        return Location(LocalStore(), unquote(urlsplit(text).path))
    if not scheme:
        return Location(LocalStore(), text)
    if scheme in ("http", "https"):
        return Location(HttpStore(remote, dict(options or {})), text)
    return Location(*FsspecStore.open(text, remote, dict(options or {})))
