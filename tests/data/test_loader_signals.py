"""A loader process outlives the signals of a cluster, and ends when its parent tells it to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection

from msvl.data.loader_signals import obey_only


def loader(pipe: Connection) -> None:
    obey_only(os.getppid())
    pipe.send(os.getpid())
    while pipe.poll(20):
        pipe.send(pipe.recv())


def test_signals_of_others_are_not_heard_and_the_parents_is() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=loader, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(20)
    pid = ours.recv()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        subprocess.run([sys.executable, "-c", f"import os; os.kill({pid}, {number})"], check=True)
    time.sleep(0.5)
    ours.send("alive")
    assert ours.poll(10)
    assert ours.recv() == "alive"
    os.kill(pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == 0
