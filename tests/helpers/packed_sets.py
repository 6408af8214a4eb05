"""Small packed sets for tests, and a packed set put on a web server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msvl.data.pack import PackOptions, pack
from msvl.data.study import Entry
from tests.helpers.object_server import ObjectServer
from tests.helpers.tiny_source import TinySource

OPTIONS = PackOptions(short_side=32, shard_samples=20)


class StudySource(TinySource):
    """Every patient has two studies, of three images and of one."""

    name = "studies"

    def entries(self) -> list[Entry]:
        return [
            replace(entry, patient=f"p{number // 4}", study=f"s{number // 4}-{number % 4 == 3}", image=str(number))
            for number, entry in enumerate(super().entries())
        ]


def pack_studies(folder: Path, options: PackOptions = OPTIONS) -> Path:
    pack(StudySource(80), folder, options, workers=1, progress=False)
    return folder


def serve_set(folder: Path, server: ObjectServer, name: str = "set") -> str:
    """Put every file of a set on the server; return its URL."""
    for file in folder.rglob("*"):
        if file.is_file():
            server.objects[f"/{name}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
    return f"{server.url}/{name}"
