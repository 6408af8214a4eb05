"""Signals in a job's batch process: remembered, and passed on to srun, which gives them to every process of every task."""

from __future__ import annotations

import signal
import subprocess
import time
from types import FrameType

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""What Slurm sends ahead of the time limit or a preemption."""
REPEAT_SECONDS = 5.0
"""A rank that still imports hears nothing, so a warning is repeated until the step ends."""


class Signals:
    """What this process was told."""

    def __init__(self) -> None:
        self.warned = False
        """A warning came: finish, save, and go on in another start."""
        self.ended = False
        """SIGTERM came: Slurm itself ends the job."""

    def install(self) -> None:
        """Take the signals over from submitit, whose handler would requeue before anything is saved."""
        for number in WARNINGS:
            signal.signal(number, self._warn)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def wait(self, step: subprocess.Popen[bytes]) -> int:
        """Wait for an srun, passing warnings on; return its exit code."""
        told = 0.0
        while (code := step.poll()) is None:
            now = time.monotonic()
            if self.warned and now - told >= REPEAT_SECONDS:
                step.send_signal(signal.SIGUSR2)
                told = now
            time.sleep(0.1)
        return code

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended = True
