"""Run a function on N real processes that talk over gloo.

The processes of one world size are started once and serve every later call (a start costs seconds of imports). They
meet over a file, so no port can clash. A failing child never hangs a test: its exception, its death or the time limit
ends the call with the rank and its traceback, and the next call starts fresh processes.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GRACE = 3.0
"""Seconds that the other ranks get after one failed: they may tell their own failure, or hang in a collective."""


class RankError(AssertionError):
    """A function failed, died or did not end in time on at least one rank."""


def run_ranks(world: int, function: Callable[..., Any], *args: Any, timeout: float = 60) -> list[Any]:
    """Return [function(*args) on rank 0, ... on rank world - 1].

    Args:
        world: Number of processes.
        function: Importable by name; finds its rank by `msvl.collectives.world`, or in the environment's RANK.
        args: The same for all ranks; can be pickled.
        timeout: Seconds until the processes are killed (a first call's start of the processes included).

    Raises RankError when a rank fails.
    """
    if world not in _CREWS:
        _CREWS[world] = _Crew(world)
    try:
        return _CREWS[world].run(function, args, timeout)
    except RankError:
        _CREWS.pop(world).end()
        raise


class _Crew:
    """The processes of one world size."""

    def __init__(self, world: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="msvl-ranks-"))
        # Imported once by the server that the ranks are forked from: starts of a tenth of a second instead of five.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "torch.distributed", "tests.helpers.ranks"])
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(world):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, world, str(self.folder / "store"), theirs), daemon=True
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float) -> list[Any]:
        order = pickle.dumps((function, args))
        for rank, pipe in enumerate(self.pipes):
            try:
                pipe.send_bytes(order)
            except OSError:
                raise RankError(f"rank {rank} is gone") from None
        deadline = time.monotonic() + timeout
        answers: dict[int, Any] = {}
        failures: dict[int, str] = {}
        while len(answers) + len(failures) < len(self.pipes) and time.monotonic() < deadline:
            for rank, pipe in enumerate(self.pipes):
                if rank in answers or rank in failures or not pipe.poll(0.01):
                    continue
                fine, value = self._answer(rank)
                (answers if fine else failures)[rank] = value
                if not fine:
                    deadline = min(deadline, time.monotonic() + GRACE)
        silent = sorted(set(range(len(self.pipes))) - set(answers) - set(failures))
        if failures or silent:
            told = [f"rank {rank}:\n{text}" for rank, text in sorted(failures.items())]
            if silent:
                told.append(f"no answer from ranks {silent}")
            raise RankError(f"{function.__name__} on {len(self.pipes)} ranks, limit {timeout} s\n" + "\n".join(told))
        return [answers[rank] for rank in range(len(self.pipes))]

    def _answer(self, rank: int) -> tuple[bool, Any]:
        try:
            return pickle.loads(self.pipes[rank].recv_bytes())
        except (EOFError, OSError):
            self.processes[rank].join(GRACE)
            return False, f"the process died with exit code {self.processes[rank].exitcode}"

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        shutil.rmtree(self.folder, ignore_errors=True)


_CREWS: dict[int, _Crew] = {}


@atexit.register
def _end_all() -> None:
    while _CREWS:
        _CREWS.popitem()[1].end()


def _serve(rank: int, world: int, store: str, pipe: Connection) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world))
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    from msvl.collectives.strict import check_collectives

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    while True:
        try:
            order = pipe.recv_bytes()
        except EOFError:  # the parent is gone
            return
        try:
            function, args = pickle.loads(order)
            check_collectives(True)
            answer = pickle.dumps((True, function(*args)))
        except Exception:  # whatever a test's function raises is told to the parent, which raises it
            answer = pickle.dumps((False, traceback.format_exc()))
        pipe.send_bytes(answer)
