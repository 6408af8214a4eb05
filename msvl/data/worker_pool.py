"""Spawned worker processes that Ctrl-C does not reach: the parent hears it and stops them in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import Any

INTERRUPT = {signal.SIGINT}


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
