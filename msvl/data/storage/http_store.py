"""Plain HTTP by ranged GETs of our own.

Not fsspec's: its answers carry no check of the range, and time without bytes cannot be told from time in all. Here both end
an attempt, because the body is read piece by piece against a deadline.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from msvl.config.errors import ConfigError
from msvl.data.storage.errors import Permanent, StorageError, Transient
from msvl.data.storage.retry import Retrier, span
from msvl.data.storage.store import ObjectInfo, RemoteConfig, StorageCounts

if TYPE_CHECKING:
    import requests

PIECE = 1 << 16
PASSING = {408, 425, 429}
"""Client errors that may pass: time-out, too early, too many requests. All server errors may."""
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class HttpStore:
    """A web server that answers ranged GETs, signed URLs included. Read only."""

    def __init__(self, config: RemoteConfig, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {"headers"})
        if unknown:
            raise ConfigError(f"storage options: HTTP knows only 'headers', found {', '.join(unknown)}: remove them")
        self._config = config
        self._options = options
        self.counts = StorageCounts()
        self._retrier = Retrier(config, self.counts)
        self._sessions = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without connections."""
        return type(self), (self._config, self._options)

    def join(self, path: str, parts: tuple[str, ...]) -> str:
        """Return the URL of something inside; a query (a signature for a prefix) stays."""
        url = urlsplit(path)
        inside = "/".join([url.path.rstrip("/"), *(quote(part.strip("/")) for part in parts)])
        return urlunsplit((url.scheme, url.netloc, inside, url.query, ""))

    def show(self, path: str) -> str:
        """Return the URL without user, password and query."""
        url = urlsplit(path)
        return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))

    def info(self, path: str) -> ObjectInfo:
        """Ask by a GET of one byte: signed URLs often refuse HEAD, and the answer shows whether ranges work."""
        return self._retrier.run(self.show(path), lambda: self._info(path))

    def read_bytes(self, path: str) -> bytes:
        """Return the whole object."""
        return self._retrier.run(self.show(path), lambda: self._get_all(path))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        if size == 0:
            return b""
        return self._retrier.run(span(self.show(path), offset, size), lambda: self._get_range(path, offset, size))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Not possible."""
        raise self._refuse(path, "plain HTTP cannot be written to: write to a disk, s3:// or gs://")

    def put_file(self, path: str, source: str) -> None:
        """Not possible."""
        raise self._refuse(path, "plain HTTP cannot be written to: write to a disk, s3:// or gs://")

    def list(self, path: str) -> list[str]:
        """Not possible."""
        raise self._refuse(path, "plain HTTP cannot list a folder: name the files, as a manifest does")

    def close(self) -> None:
        """Close this thread's connections."""
        if hasattr(self._sessions, "session"):
            self._sessions.session.close()
            del self._sessions.session

    def _refuse(self, path: str, why: str) -> StorageError:
        return StorageError(f"{self.show(path)}: {why}", "unsupported")

    def _info(self, path: str) -> ObjectInfo:
        with self._ask(path, {"Range": "bytes=0-0"}, allowed=(200, 206, 416)) as answer:
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if answer.status_code == 200:
                size = answer.headers.get("Content-Length", "")
            else:
                found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
                size = found[3] if found else ""
        if not size.isdigit():
            raise Permanent("unsupported", "the server does not say how large it is")
        return ObjectInfo(int(size), tag)

    def _get_all(self, path: str) -> bytes:
        with self._ask(path, {}, allowed=(200,)) as answer:
            length = answer.headers.get("Content-Length", "")
            return self._body(answer, int(length) if length.isdigit() else None)

    def _get_range(self, path: str, offset: int, size: int) -> bytes:
        wanted = {"Range": f"bytes={offset}-{offset + size - 1}"}
        with self._ask(path, wanted, allowed=(200, 206, 416)) as answer:
            if answer.status_code == 200:
                raise Permanent(
                    "unsupported",
                    "the server ignores ranged reads",
                    "serve the set by one that honours them (nginx, Apache, any S3), or copy it to a disk",
                )
            found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            total = int(found[3]) if found and found[3] != "*" else None
            if answer.status_code == 416 or (total is not None and total < offset + size):
                raise Permanent("short", f"it has {'fewer' if total is None else total} bytes")
            if found is None or found[1] is None or int(found[1]) != offset or int(found[2]) != offset + size - 1:
                raise Transient(f"the answer is for another range ({answer.headers.get('Content-Range', 'none')})")
            return self._body(answer, size)

    def _ask(self, path: str, headers: dict[str, str], allowed: tuple[int, ...]) -> requests.Response:
        import requests  # here, because it takes 0.1 s and local sets never need it

        try:
            answer = self._session().get(
                path,
                # Compressed answers have neither the asked length nor the asked range.
                headers={**self._options.get("headers", {}), **headers, "Accept-Encoding": "identity"},
                stream=True,
                timeout=self._config.timeout_seconds,
            )
        except requests.Timeout:
            raise Transient(f"no answer within {self._config.timeout_seconds:g} s") from None
        except requests.ConnectionError as error:
            raise Transient(f"no connection ({_root(error)})") from None
        except (requests.RequestException, UnicodeError) as error:
            raise Permanent("unsupported", f"the request cannot be made ({type(error).__name__})") from None
        if answer.status_code not in allowed:
            answer.close()
            _refused(answer.status_code)
        return answer

    def _body(self, answer: requests.Response, size: int | None) -> bytes:
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        deadline = time.monotonic() + self._config.deadline_seconds(size or 0)
        body = bytearray()
        try:
            while piece := answer.raw.read1(PIECE):
                body += piece
                # An answer without a length has no deadline in all; the time without bytes still ends it.
                if size is not None and time.monotonic() > deadline and len(body) < size:
                    raise Transient(
                        f"only {len(body):,} of {size:,} bytes came in {self._config.deadline_seconds(size):.3g} s"
                    )
        except ReadTimeoutError:
            raise Transient(
                f"no bytes for {self._config.timeout_seconds:g} s after {len(body):,} of {size or 'unknown'}"
            ) from None
        except (HTTPError, OSError) as error:
            raise Transient(f"the connection broke after {len(body):,} bytes ({_root(error)})") from None
        if size is not None and len(body) != size:
            raise Transient(f"the answer has {len(body):,} instead of {size:,} bytes")
        self.counts.bytes_read += len(body)
        return bytes(body)

    def _session(self) -> requests.Session:
        import requests

        # A connection must not be shared by threads, nor by a process and its fork.
        if getattr(self._sessions, "process", None) != os.getpid():
            self._sessions.session = requests.Session()
            self._sessions.process = os.getpid()
        elif not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
        return self._sessions.session


def _refused(status: int) -> None:
    if status in (404, 410):
        raise Permanent("missing", f"not found (HTTP {status})")
    if status in (401, 403, 407):
        raise Permanent("forbidden", f"refused (HTTP {status})")
    if status >= 500 or status in PASSING:
        raise Transient(f"HTTP {status}")
    raise Permanent("unavailable", f"HTTP {status}", "check the URL")


def _root(error: BaseException) -> str:
    """Name the innermost cause: the outer texts repeat the URL, signature and all."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__
