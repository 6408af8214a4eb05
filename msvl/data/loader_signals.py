"""Signals in loader processes: a cluster that asks a run to stop tells all its processes, and the run's last step needs data."""

from __future__ import annotations

import os
import signal
import threading

IGNORED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def obey_only(process: int) -> None:
    """From now on end on SIGTERM of one process alone, as torch sends it from the rank; ignore what others send.

    Called in a loader process, before it starts threads. The signal is blocked and taken by a thread that asks for its
    sender, which a handler is not told.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for, args=(process,), daemon=True, name="msvl-signals").start()


def _wait_for(process: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != process:
        pass
    os._exit(0)
