"""Who is still running (Linux)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def descendants(process: int) -> list[int]:
    return [found for child in children(process) for found in (child, *descendants(child))]


def gone(process: int) -> bool:
    """Return whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(processes: Iterable[int], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left := [process for process in left if not gone(process)]:
        assert time.monotonic() < deadline, f"processes {left} stay"
        time.sleep(0.02)
