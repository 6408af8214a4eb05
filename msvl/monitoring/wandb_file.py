"""What W&B's own file of an offline or online run holds (run-ID.wandb): which steps were really mirrored before a kill.

The file is a log of protocol buffers in chunks, as LevelDB writes them: blocks of 32 KiB; each chunk has 7 bytes in front
(CRC-32, length, kind), and a record that does not fit into its block goes on in the next one.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = b":W&B"
HEAD_BYTES, BLOCK, CHUNK = 7, 32768, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def history(path: Path) -> list[dict[str, Any]]:
    """Return the rows that were logged; a tail that a kill cut short is left out."""
    return _Log(path).rows


def seal(folder: Path, run_id: str) -> int:
    """Return the last step that earlier attempts of a run have mirrored (0: none), and let them mirror nothing more.

    The file of an attempt that did not end in order may belong to one that still lives: it is replaced by a copy of what it
    holds, so that what that attempt writes later goes nowhere. A damaged tail is cut off.
    """
    last = 0
    for path in folder.rglob(f"run-{run_id}.wandb"):
        log = _Log(path)
        last = max([last, *(int(row["step"]) for row in log.rows if "step" in row)])
        if not log.ended:
            copy = path.with_name(f".{path.name}.{os.getpid()}")
            copy.write_bytes(log.sound)
            os.replace(copy, path)
    return last


class _Log:
    """What a file holds."""

    def __init__(self, path: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # where W&B is on only

        data = path.read_bytes()
        self.rows: list[dict[str, Any]] = []
        self.ended = False
        """Whether the attempt said that it ends."""
        end = min(len(data), HEAD_BYTES)
        for end, content in _records(data):  # noqa: B007 - the end of the last one is used
            record = Record.FromString(content)
            if record.HasField("history"):
                items = record.history.item
                self.rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
            self.ended = self.ended or record.HasField("exit")
        self.sound = data[:end]
        """The bytes up to the last whole record."""


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each whole record with the place of its end."""
    if not data.startswith(HEAD):
        return
    place, begun = HEAD_BYTES, b""
    while place + CHUNK.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < CHUNK.size:  # too little for another chunk: filled up
            place += left
            continue
        checksum, length, kind = CHUNK.unpack_from(data, place)
        part = data[place + CHUNK.size : place + CHUNK.size + length]
        if len(part) < length or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        place += CHUNK.size + length
        begun = part if kind in (FULL, FIRST) else begun + part
        if kind in (FULL, LAST):
            yield place, begun
