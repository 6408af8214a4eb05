"""A model hub on this machine: just what huggingface_hub asks of one when it downloads a model."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves {name: folder} at `url` until the block ends; `asked` lists what was downloaded."""

    def __init__(self, models: dict[str, Path]) -> None:
        self.models = models
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.split("?")[0].strip("/")
                for name, folder in server.models.items():
                    if path in (f"api/models/{name}", f"api/models/{name}/revision/main"):
                        siblings = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                        told = {
                            "id": name,
                            "modelId": name,
                            "sha": REVISION,
                            "siblings": siblings,
                            "private": False,
                            "tags": [],
                        }
                        self.send(json.dumps(told).encode(), {"Content-Type": "application/json"}, body=body)
                        return
                    if path in (f"api/models/{name}/tree/main", f"api/models/{name}/tree/{REVISION}"):
                        tree = [
                            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": REVISION}
                            for file in sorted(folder.iterdir())
                        ]
                        self.send(json.dumps(tree).encode(), {"Content-Type": "application/json"}, body=body)
                        return
                    for revision in ("main", REVISION):
                        prefix = f"{name}/resolve/{revision}/"
                        file = folder / path.removeprefix(prefix)
                        if path.startswith(prefix) and file.is_file():
                            if body:
                                server.asked.append(f"{name}/{file.name}")
                            data = file.read_bytes()
                            etag = hashlib.sha256(data).hexdigest()
                            self.send(data, {"X-Repo-Commit": REVISION, "ETag": f'"{etag}"'}, body=body)
                            return
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def send(self, data: bytes, headers: dict[str, str], *, body: bool) -> None:
                self.send_response(200)
                for key, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
