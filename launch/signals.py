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
        self._passed_on = 0.0

    def install(self) -> None:
        """Take the signals over from submitit, whose handler would requeue before anything is saved."""
        for number in WARNINGS:
            signal.signal(number, self._warn)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def wait(self, step: subprocess.Popen[bytes]) -> int:
        """Wait for an srun, passing warnings on; return its exit code."""
        while not self.wait_at_most(step, 3600.0):
            pass
        return step.wait()

    def wait_at_most(self, step: subprocess.Popen[bytes], seconds: float) -> bool:
        """Wait for an srun as `wait` does; return whether it ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while step.poll() is None:
            now = time.monotonic()
            if now > deadline:
                return False
            if self.warned and now - self._passed_on >= REPEAT_SECONDS:
                step.send_signal(signal.SIGUSR2)
                self._passed_on = now
            time.sleep(0.1)
        return True

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended = True
