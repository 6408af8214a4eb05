"""The cells of an ablation at work: several at once, each a row of `msvl` commands in processes of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msvl.config.errors import MsvlError
from msvl.environment import die_with_parent

POLL_SECONDS = 0.2
STDERR = 2
"""File descriptor; stdout is for the table."""


@dataclass(frozen=True)
class Row:
    """A set of scales."""

    name: str
    overrides: tuple[str, ...]


class RowFailed(MsvlError):
    """A command of a row ended with an exit code; its own message stands above, or in the row's log."""


@dataclass
class Cell:
    """One row with one seed: what is to be done for it."""

    row: Row
    seed: int
    result: Path
    """Its judgement."""
    log: Path
    commands: list[list[str]] = field(default_factory=list)
    """Words of `msvl` still to run."""

    @property
    def name(self) -> str:
        """Return its folder's name."""
        return f"{self.row.name.replace('+', '-')}-seed{self.seed}"


def say(text: str) -> None:
    """Tell a person, who reads stderr."""
    sys.stderr.write(f"msvl ablation: {text}\n")
    sys.stderr.flush()


def work(cells: Sequence[Cell], parallel: int, finished: Callable[[Cell], None]) -> None:
    """Run the commands of the cells, several cells at once, and call `finished` with each that has none left.

    Raises RowFailed when a command fails: those that run then are waited for, no more are started.
    """
    waiting = list(cells)
    running: dict[str, tuple[Cell, subprocess.Popen[bytes]]] = {}
    failed: list[str] = []
    began, done = time.monotonic(), 0
    try:
        while running or (waiting and not failed):
            if waiting and not failed and len(running) < parallel:
                cell = waiting.pop(0)
                running[cell.name] = (cell, _start(cell, parallel))
                continue
            ended = [(cell, child.returncode) for cell, child in running.values() if child.poll() is not None]
            for cell, code in ended:
                del running[cell.name]
                if code:
                    failed.append(_failure(cell, code, parallel))
                    continue
                cell.commands.pop(0)
                if cell.commands:
                    running[cell.name] = (cell, _start(cell, parallel))
                    continue
                done += 1
                left = (time.monotonic() - began) / done * (len(cells) - done)
                say(f"{cell.name} is finished, {done} of {len(cells)}; about {left / 60:.0f} minutes left")
                finished(cell)
            if not ended:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        for _, child in running.values():  # the terminal sent it to them too: they finish their step and save
            child.wait()
        raise
    if failed:
        raise RowFailed(f"{'; '.join(failed)}: mend it and repeat `msvl ablation` to go on")


def _failure(cell: Cell, code: int, parallel: int) -> str:
    where = f", see {cell.log}" if parallel > 1 else ""
    return f"`msvl {shlex.join(cell.commands[0])}` ended with exit code {code}{where}"


def _start(cell: Cell, parallel: int) -> subprocess.Popen[bytes]:
    """Start the next command of a cell; several at once write into files of their own."""
    line = f"\n$ msvl {shlex.join(cell.commands[0])}\n"
    words = [sys.executable, "-m", "msvl.cli", *cell.commands[0]]
    if parallel == 1:
        sys.stderr.write(line)
        sys.stderr.flush()
        return subprocess.Popen(words, stdout=STDERR, preexec_fn=die_with_parent)  # noqa: PLW1509 - see below
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    with open(cell.log, "ab") as stream:
        stream.write(line.encode())
        stream.flush()
        # preexec_fn: single-threaded here, and no orphan may stay.
        return subprocess.Popen(
            words, stdout=stream, stderr=stream, env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )  # fmt: skip
