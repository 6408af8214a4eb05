"""The events of a run that its plan does not hold: which places were filled by which substitute, in `fills/rank-R.jsonl`.

A line is on disk before its step is taken, so the plan and these lines tell what every step has read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from msvl.config.errors import CheckpointError
from msvl.data.faults import Fault, Fill

FOLDER = "fills"


class FillFile:
    """Appends the fills of one rank. The file begins to exist with the first."""

    def __init__(self, run: Path, rank: int) -> None:
        self._path = run / FOLDER / f"rank-{rank:05d}.jsonl"

    def append(self, fills: Iterable[Fill]) -> None:
        """Write events and wait until they are on disk. Raises CheckpointError when they cannot be."""
        lines = "".join(json.dumps(asdict(fill)) + "\n" for fill in fills)
        try:
            self._path.parent.mkdir(exist_ok=True, mode=0o700)
            with open(self._path, "a+b") as stream:
                stream.seek(0)
                stream.truncate(_whole_lines(stream.read()))
                stream.write(lines.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise CheckpointError(
                f"{self._path} cannot be written ({error.strerror}): it must name every place that was filled before the "
                "step is taken; free space, then --resume"
            ) from error


def read_fills(run: Path) -> dict[int, Fill]:
    """Return the fill of every position in any rank's file; the latest attempt counts where there are several.

    A last line that a kill cut short belongs to a step that was never taken. Raises CheckpointError for other damage.
    """
    found: dict[int, Fill] = {}
    for path in sorted((run / FOLDER).glob("rank-*.jsonl")):
        data = path.read_bytes()
        for number, line in enumerate(data[: _whole_lines(data)].splitlines(), 1):
            try:
                item = json.loads(line)
                fill = Fill(**item | {"faults": tuple(Fault(**fault) for fault in item["faults"])})
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"{path}, line {number} is damaged ({error}): what the run has read cannot be told without it; choose "
                    "another run.name"
                ) from error
            if fill.position not in found or found[fill.position].attempt < fill.attempt:
                found[fill.position] = fill
    return found


def _whole_lines(data: bytes) -> int:
    return data.rfind(b"\n") + 1
