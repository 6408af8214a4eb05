"""Spawned worker processes that Ctrl-C does not reach: the parent hears it and stops them in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from msvl.environment import die_with_parent

INTERRUPT = {signal.SIGINT}
Given = TypeVar("Given")
Found = TypeVar("Found")


class WorkerPool(ProcessPoolExecutor):
    """Processes by spawn (forked children of a process that has threads can hang), started with SIGINT blocked.

    Ctrl-C goes to the whole group of processes. A worker that ignores it only once its own code runs would still print a
    traceback where it is caught importing; a blocked signal is inherited from its first instruction on.

    Args:
        workers: Processes.
        initializer: Called in each with `arguments`.
    """

    def __init__(self, workers: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()):
        # Its start unblocks SIGINT: it must be there before the first worker.
        resource_tracker.ensure_running()
        super().__init__(workers, multiprocessing.get_context("spawn"), initializer, arguments)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give a call to a worker, which may be started here. Ctrl-C is heard right after."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_order(
    pool: ProcessPoolExecutor, work: Callable[[Given], Found], items: Iterable[Given], *, ahead: int
) -> Iterator[Found]:
    """Yield what `work` makes of each item, in their order; at most `ahead` are begun before their turn."""
    waiting: deque[Future[Found]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def end_with_parent(parent: int) -> None:
    """Let this worker process end with its parent, also when that is dead already."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
