"""A web server on 127.0.0.1 that honours ranges, and fails by script. S3's GET and HEAD are close enough to be served too."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ObjectServer:
    """What is served, what was asked, and which faults come next."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        """Path -> bytes."""
        self.faults: list[str] = []
        """Taken from the front, one a request: '500', '403', 'reset', 'stall', 'truncate', 'drip', 'other', or 'ok'."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, path with query, and Range of each request."""
        self.ranges = True
        """Whether ranged reads are honoured."""
        self.delay = 0.0
        """Seconds before each answer."""
        self.stop = threading.Event()
        self.url = ""
        self.lock = threading.Lock()

    def ranges_of(self, path: str) -> list[str]:
        """Return the ranges asked of a path, the one-byte questions about its size left out."""
        return [span for _, asked, span in self.requests if asked.partition("?")[0] == path and span != "bytes=0-0"]


@contextmanager
def serve_objects() -> Iterator[ObjectServer]:
    """Serve until the block ends."""
    state = ObjectServer()

    class Handler(_Handler):
        server_state = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart, and would wait 40 ms for each other
    server_state: ObjectServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        state = self.server_state
        span = self.headers.get("Range", "")
        with state.lock:
            state.requests.append((self.command, self.path, span))
            fault = state.faults.pop(0) if state.faults else "ok"
        time.sleep(state.delay)
        if fault.isdigit():
            return self._end(int(fault), b"")
        if fault == "reset":
            return self._reset()
        if fault == "stall":
            state.stop.wait(20)
            self.close_connection = True
            return None
        data = state.objects.get(self.path.partition("?")[0])
        if data is None:
            return self._end(404, b"")
        return self._send(data, span if state.ranges else "", fault, body)

    def _send(self, data: bytes, span: str, fault: str, body: bool) -> None:
        status, part, headers = 200, data, {}
        if span:
            low, high = (int(number) for number in span.removeprefix("bytes=").split("-"))
            if low >= len(data):
                return self._end(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            if fault == "other":
                low, high = low + 1, high + 1
            part = data[low : high + 1]
            status, headers = 206, {"Content-Range": f"bytes {low}-{low + len(part) - 1}/{len(data)}"}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(part)), "ETag": f'"{hash(data)}"'}.items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return None
        if fault == "truncate":
            part = part[: len(part) // 2]
            self.close_connection = True
        if fault == "drip":
            return self._drip(part)
        self.wfile.write(part)
        return None

    def _drip(self, part: bytes) -> None:
        for byte in part:
            if self.server_state.stop.is_set():
                break
            try:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            except OSError:
                break
            time.sleep(0.05)
        self.close_connection = True

    def _end(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        # A linger of zero turns the close into a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        self.rfile.close()
