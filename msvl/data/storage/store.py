"""What every kind of store offers to `Location`, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import Field, PositiveFloat, PositiveInt

from msvl.config.base import Config


class RemoteConfig(Config):
    """How often and how long a remote store is asked."""

    attempts: PositiveInt = 5
    """Attempts per read or write, the first included (botocore's default)."""
    timeout_seconds: PositiveFloat = 30.0
    """An attempt ends when no byte has come for this long (botocore and mosaicml-streaming wait 60)."""
    min_mb_per_second: PositiveFloat = 1.0
    """An attempt also ends after `timeout_seconds` plus the time its bytes take at this rate, in 10^6 bytes per second."""
    backoff_seconds: float = Field(0.5, ge=0)
    """Pause before the second attempt; doubled before each further one. A random half is taken off, so that ranks spread."""
    max_backoff_seconds: float = Field(20.0, ge=0)
    """The longest pause (that of the AWS SDKs' standard retry mode)."""

    def deadline_seconds(self, size: int) -> float:
        """Return the longest time that one attempt at `size` bytes may take."""
        return self.timeout_seconds + size / (self.min_mb_per_second * 1e6)


@dataclass(frozen=True)
class ObjectInfo:
    """What a store says about an object without reading it."""

    size: int
    """Length in bytes."""
    tag: str
    """Changes when the content does: ETag, generation or time of change; empty where the store has none."""


@dataclass
class StorageCounts:
    """What a store has done in this process since it was opened."""

    requests: int = 0
    """Attempts made at remote reads, writes and questions."""
    retries: int = 0
    """Attempts that failed and were repeated."""
    bytes_read: int = 0
    """Bytes that remote reads returned."""


class Store(Protocol):
    """A store of named objects. Paths are the store's own; `show` turns one into text without credentials."""

    counts: StorageCounts

    def join(self, path: str, parts: tuple[str, ...]) -> str:
        """Return the path of something inside `path`."""

    def show(self, path: str) -> str:
        """Return the path or URL without user names, passwords and query strings."""

    def info(self, path: str) -> ObjectInfo:
        """Return size and tag. Raises StorageError."""

    def read_bytes(self, path: str) -> bytes:
        """Return the whole object. Raises StorageError."""

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes. Raises StorageError, of kind `short` when the object ends before."""

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write the whole object so that no reader sees a part. Raises StorageError."""

    def put_file(self, path: str, source: str) -> None:
        """Copy a local file there so that no reader sees a part. Raises StorageError."""

    def list(self, path: str) -> list[str]:
        """Return the sorted names directly inside a folder; of folders too, without a slash. Raises StorageError."""

    def close(self) -> None:
        """Give back descriptors and connections; the store can be used again afterwards."""
