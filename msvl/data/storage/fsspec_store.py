"""Every other scheme through fsspec (s3fs, gcsfs, adlfs, ...), with its own retries off and our deadline around each call.

Asynchronous file systems (s3, gs, az) end by the deadline; of the others only what they time out themselves.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, TypeVar

from msvl.data.storage.errors import Kind, Permanent, StorageError, Transient
from msvl.data.storage.retry import Retrier, span
from msvl.data.storage.store import ObjectInfo, RemoteConfig, StorageCounts

TAGS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "mtime", "created")
"""Where the file systems say what changes with the content, best first."""
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""What botocore and google-auth raise before they ask anyone; named, because neither may be installed."""
T = TypeVar("T")


class FsspecStore:
    """An fsspec file system. Built per process: its event loop does not survive a fork."""

    def __init__(self, url: str, config: RemoteConfig, options: dict[str, Any]) -> None:
        self._url = url
        self._config = config
        self._options = options
        self.counts = StorageCounts()
        self._retrier = Retrier(config, self.counts)
        self._built: tuple[int, Any] | None = None

    @classmethod
    def open(cls, url: str, config: RemoteConfig, options: dict[str, Any]) -> tuple[FsspecStore, str]:
        """Return the store and the URL as its path. Raises StorageError for an unknown scheme or a missing package."""
        from fsspec.registry import get_filesystem_class

        store = cls(url, config, options)
        try:
            for part in url.split("::"):  # fsspec chains file systems: zip://inside::s3://...
                get_filesystem_class(part.partition("://")[0])
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"{store.show(url)}: this scheme is not known or needs a package ({redact(str(error))}): check it, "
                "or `pip install 'msvl[remote]'`",
                "unsupported",
            ) from None
        return store, url

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without connections."""
        return type(self), (self._url, self._config, self._options)

    def join(self, path: str, parts: tuple[str, ...]) -> str:
        """Return the URL of something inside."""
        return "/".join([path.rstrip("/"), *(part.strip("/") for part in parts)])

    def show(self, path: str) -> str:
        """Return the URL without user, password and query."""
        return redact(path)

    def info(self, path: str) -> ObjectInfo:
        """Return size and tag."""
        found = self._run(self.show(path), "info", 0, path)
        if found.get("type") == "directory":
            # A prefix is no object: nothing can be read from it.
            raise StorageError(f"{self.show(path)}: there is a folder of this name, no object: name a file", "missing")
        if found.get("size") is None:
            raise StorageError(f"{self.show(path)}: the store does not say how large it is", "unsupported")
        tag = next((str(found[name]) for name in TAGS if found.get(name)), "")
        return ObjectInfo(int(found["size"]), tag)

    def read_bytes(self, path: str) -> bytes:
        """Return the whole object, its length checked against what the store says."""
        return self._read(path, 0, self.info(path).size, self.show(path))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        return self._read(path, offset, size, span(self.show(path), offset, size))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write in one go or in parts that appear together, as object stores do."""
        self._run(self.show(path), "pipe_file", len(data), path, data)

    def put_file(self, path: str, source: str) -> None:
        """Upload a local file likewise."""
        try:
            size = os.path.getsize(source)
        except OSError as error:
            raise StorageError(f"{source}: {error.strerror}: name a file that can be read", "missing") from error
        self._run(self.show(path), "put_file", size, source, path)

    def list(self, path: str) -> list[str]:
        """Return the sorted names inside a folder."""
        found = [name.rstrip("/") for name in self._run(self.show(path), "ls", 0, path, detail=False)]
        own = self._filesystem()._strip_protocol(path).rstrip("/")
        # Some stores list the folder's own marker among what it holds.
        return sorted({PurePosixPath(name).name for name in found if name != own})

    def close(self) -> None:
        """Forget the file system; its connections close with it."""
        self._built = None

    def _read(self, path: str, offset: int, size: int, subject: str) -> bytes:
        if size == 0:
            return b""

        def attempt() -> bytes:
            data = self._call("cat_file", size, path, start=offset, end=offset + size)
            if len(data) != size:
                have = self._call("info", 0, path).get("size")
                if have is not None and int(have) < offset + size:
                    raise Permanent("short", f"it has {int(have):,} bytes")
                raise Transient(f"the answer has {len(data):,} instead of {size:,} bytes")
            return data

        data = self._retrier.run(subject, attempt)
        self.counts.bytes_read += size
        return data

    def _run(self, subject: str, name: str, size: int, *arguments: Any, **keywords: Any) -> Any:
        return self._retrier.run(subject, lambda: self._call(name, size, *arguments, **keywords))

    def _call(self, name: str, size: int, *arguments: Any, **keywords: Any) -> Any:
        filesystem = self._filesystem()
        seconds = self._config.deadline_seconds(size)
        strip = filesystem._strip_protocol
        # put_file takes (local, remote): its first argument is no URL.
        places = [strip(a) if isinstance(a, str) and "://" in a else a for a in arguments]
        try:
            if filesystem.async_impl:
                return _within(filesystem.loop, getattr(filesystem, f"_{name}"), seconds, *places, **keywords)
            return getattr(filesystem, name)(*places, **keywords)
        # Each file system has exceptions of its own, without a base in common.
        except Exception as error:
            raise classify(error, seconds) from None

    def _filesystem(self) -> Any:
        built = self._built
        if built is None or built[0] != os.getpid():
            built = self._built = (os.getpid(), self._build())
        return built[1]

    def _build(self) -> Any:
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False, **self._options}
        s3 = self._url.startswith(("s3://", "s3a://"))
        if s3:
            limits = {"connect_timeout": self._config.timeout_seconds, "read_timeout": self._config.timeout_seconds}
            own = options.get("config_kwargs", {})
            options["config_kwargs"] = {**limits, "retries": {"total_max_attempts": 1}, **own}
        filesystem, _ = url_to_fs(self._url, **options)
        if s3:
            # s3fs repeats on its own up to five times within one call; the counting is ours.
            filesystem.retries = 1
        return filesystem


def _within(loop: Any, call: Callable[..., T], seconds: float, *arguments: Any, **keywords: Any) -> T:
    from fsspec.asyn import sync

    return sync(loop, call, *arguments, timeout=seconds, **keywords)


def classify(error: Exception, seconds: float) -> Exception:
    """Return Transient or Permanent for what a file system raised; a fault of the program comes back as it is."""
    if isinstance(error, (TypeError, AttributeError, NameError)):
        return error
    if isinstance(error, TimeoutError):
        return Transient(f"no complete answer within {seconds:.3g} s")
    reason = f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:200]}"
    kind = _kind(error)
    return Permanent(kind, reason) if kind else Transient(reason)


def _kind(error: Exception) -> Kind | None:
    found = str(getattr(error, "status", None) or getattr(error, "code", None))
    status = int(found) if found.isdigit() else 0
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "missing"
    if isinstance(error, PermissionError) or status in (401, 403) or type(error).__name__ in NO_CREDENTIALS:
        return "forbidden"
    if status == 416 or "not satisfiable" in str(error).lower():
        return "short"
    refused = getattr(error, "errno", None) in (errno.EINVAL, errno.EPERM, errno.ENOSYS)
    if refused or isinstance(error, NotImplementedError) or type(error).__name__ == "ParamValidationError":
        return "unsupported"
    return None


def redact(text: str) -> str:
    """Take user names, passwords and query strings out of the URLs in a text."""
    text = re.sub(r"(://)[^/\s@]+@", r"\1", text)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)
