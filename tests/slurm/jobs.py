"""Callables that tests submit."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Sleeper:
    """Sleeps, then answers."""

    seconds: float
    answer: str

    def __call__(self) -> str:
        time.sleep(self.seconds)
        return self.answer
