"""Attempts at a remote store: exponential back-off with jitter, counted, logged once per object."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from msvl.data.storage.errors import CURES, Permanent, StorageError, Transient
from msvl.data.storage.store import RemoteConfig, StorageCounts

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Retrier:
    """Repeats what fails in passing. One per store and process."""

    def __init__(self, config: RemoteConfig, counts: StorageCounts) -> None:
        self._config = config
        self._counts = counts
        self._warned: set[str] = set()
        # Not the global generator: forked workers share its state and would all pause for the same time.
        self._random = random.SystemRandom()

    def run(self, subject: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns. `subject` is the URL and range as the user may see them. Raises StorageError."""
        for number in range(1, self._config.attempts + 1):
            self._counts.requests += 1
            try:
                return attempt()
            except Permanent as error:
                raise StorageError(f"{subject}: {error}: {error.cure or CURES[error.kind]}", error.kind) from None
            except Transient as error:
                # `from None`: the libraries' own texts may hold signed URLs.
                if number == self._config.attempts:
                    raise StorageError(
                        f"{subject} could not be had in {number} attempts; the last: {error}: {CURES['unavailable']}",
                        "unavailable",
                    ) from None
                self._note(subject, str(error))
                time.sleep(self._pause(number))
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, number: int) -> float:
        longest = min(self._config.max_backoff_seconds, self._config.backoff_seconds * 2 ** (number - 1))
        return longest * self._random.uniform(0.5, 1.0)

    def _note(self, subject: str, reason: str) -> None:
        self._counts.retries += 1
        url = subject.partition(" [")[0]
        if url not in self._warned:
            self._warned.add(url)
            logger.warning("%s: %s; tried again (said once per object; retries are counted)", subject, reason)


def span(url: str, offset: int, size: int) -> str:
    """Name a range of an object."""
    return f"{url} [{offset} + {size} bytes]"
