"""A signal asks the run to stop at the end of a step: the handler only sets a flag, all ranks agree on it."""

from __future__ import annotations

import os
import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Whether somebody asked this process to stop. The second SIGINT ends it at once, as people expect."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._owner = os.getpid()

    def install(self) -> None:
        """Take over the signals (in the main thread of a rank)."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.name is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a loader process inherits handlers until it sets its own
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
