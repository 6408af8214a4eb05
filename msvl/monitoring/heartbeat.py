"""What a rank is doing, in a small memory-mapped file that outlives its silence: step, phase, sample keys, collective, reads.

The file lies on the node's own disk or memory; writing is a copy into mapped memory (some 10 us), so it is done before every
phase. A rank that hangs or stands still cannot tell anything any more, its file can. Standard library only.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import ClusterError

SLOT = 4096
_HEAD = struct.Struct("<QI")
_WHO, _NOW, _BATCH, _COLLECTIVE, _READERS = range(5)
STEP_PHASES = ("data", "forward", "agree", "backward", "report")
"""In their order; together they are a step, whose time is limited as a whole."""


class Heartbeat:
    """Written by one rank, and by its loader processes."""

    def __init__(self, path: Path | None, *, rank: int, readers: int) -> None:
        """Create the file.

        Args:
            path: On this node; None where nobody reads it.
            rank: This process's.
            readers: Loader processes.

        Raises:
            ClusterError: The file cannot be made.
        """
        size = (_READERS + 1 + readers + 1) * SLOT
        self._path = path
        if path is None:
            self._map = mmap.mmap(-1, size)
        else:
            _make(path, size)
            self._map = _mapped(path)
        self._counts = {"beats": 0, "collectives": 0}
        self._mark, self._section = time.monotonic(), ("", -1)
        self._write(
            _WHO, {"rank": rank, "pid": os.getpid(), "started": start_time(os.getpid()), "host": os.uname().nodename}
        )
        self.phase("start", 0)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to a loader process that was not forked, by the file."""
        return {name: value for name, value in self.__dict__.items() if name != "_map"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file in another process."""
        self.__dict__.update(state)
        self._map = _mapped(state["_path"])

    def phase(self, name: str, step: int, keys: Sequence[str] = ()) -> None:
        """Say what begins.

        Args:
            name: One of STEP_PHASES, or a section of its own (start, judge, save, end).
            step: The step that is being made, from 1.
            keys: Sample keys of this rank's batch, where it has just got one.
        """
        now = time.monotonic()
        section = ("step" if name in STEP_PHASES else name, step)
        if section != self._section:
            self._mark, self._section = now, section
        self._counts["beats"] += 1
        if keys:
            self._write(_BATCH, {"step": step, "keys": _fitting(keys)})
        told = {"phase": name, "step": step, "since": now, "mark": self._mark, "beats": self._counts["beats"]}
        self._write(_NOW, told)

    def collective(self, operation: str, site: str) -> None:
        """Say that a collective is about to run."""
        self._counts["collectives"] += 1
        told = {"what": f"{operation} at {site}", "number": self._counts["collectives"], "since": time.monotonic()}
        self._write(_COLLECTIVE, told)

    def reading(self, reader: int, shard: str, key: str) -> None:
        """Say which sample is read, from which shard; an empty key says that its batch is done. `reader` is 0 in the rank."""
        self._write(_READERS + reader, {"shard": shard, "key": key, "pid": os.getpid(), "since": time.monotonic()})

    def told_to_leave(self) -> bool:
        """Return whether the watchdog has ended this attempt."""
        return self._map[-1] != 0

    def _write(self, slot: int, value: dict[str, Any]) -> None:
        data, begin = json.dumps(value).encode()[: SLOT - _HEAD.size], slot * SLOT
        count = _HEAD.unpack_from(self._map, begin)[0] + 1
        _HEAD.pack_into(self._map, begin, count, 0)  # length 0: being written
        self._map[begin + _HEAD.size : begin + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._map, begin, count, len(data))


@dataclass(frozen=True)
class Beat:
    """What a rank's file says."""

    who: dict[str, Any]
    now: dict[str, Any]
    batch: dict[str, Any]
    collective: dict[str, Any]
    readers: list[dict[str, Any]]

    def alive(self) -> bool:
        """Return whether the process that wrote it still exists."""
        return start_time(self.who["pid"]) == self.who["started"]


def read_beat(path: Path) -> Beat | None:
    """Read a rank's file, or None while it is being made."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    values = [_slot(data, number) for number in range(len(data) // SLOT - 1)]
    if len(values) <= _READERS or not values[_WHO] or not values[_NOW]:
        return None
    who, now, batch, collective = (value or {} for value in values[:_READERS])
    return Beat(who, now, batch, collective, [value for value in values[_READERS:] if value])


def tell_to_leave(path: Path) -> None:
    """Ask the rank of a file to end its process."""
    with open(path, "r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")


def start_time(pid: int) -> str | None:
    """Return when a living process began, in the kernel's ticks (ids are used again), or None for a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _make(path: Path, size: int) -> None:
    """Make a file with all its blocks: a write to a mapped hole would end the process where the disk is full."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        raise ClusterError(
            f"{path} cannot be made ({error.strerror}), and the watchdog reads there what a rank does: set TMPDIR to a folder of "
            "this node that has room, or train.watchdog_minutes=0"
        ) from error


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb+") as stream:
        return mmap.mmap(stream.fileno(), 0)


def _slot(data: bytes, number: int) -> dict[str, Any] | None:
    begin = number * SLOT
    length = _HEAD.unpack_from(data, begin)[1]
    try:
        return json.loads(data[begin + _HEAD.size : begin + _HEAD.size + length]) if length else None
    except ValueError:  # caught while it was being written
        return None


def _fitting(keys: Sequence[str]) -> list[str]:
    """Return the first keys that fit into a slot."""
    kept, room = [], SLOT - 256
    for key in keys:
        room -= len(key) + 4
        if room < 0:
            break
        kept.append(key)
    return kept
