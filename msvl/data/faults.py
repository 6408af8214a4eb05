"""Records that cannot be read, the places that were filled instead of them, and the share above which a run stops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msvl.config.errors import DataError


@dataclass(frozen=True)
class Fault:
    """Something that could not be read."""

    shard: str
    """Path or URL."""
    key: str
    """The sample's; empty when its whole shard is lost."""
    reason: str
    samples: int = 1
    """How many samples are lost by it."""


@dataclass(frozen=True)
class Fill:
    """A place that was filled by a substitute: an event of the run."""

    step: int
    position: int
    attempt: int
    """Which substitute (from 1): with the plan, it names the sample."""
    key: str
    """Of the substitute."""
    faults: tuple[Fault, ...]
    """What could not be read before."""


class LostSamples:
    """Distinct unreadable samples; one in two places or on two ranks counts once."""

    def __init__(self, *, samples: int, max_share: float) -> None:
        self._samples = samples
        self._max_share = max_share
        self._found: dict[tuple[str, str], Fault] = {}

    def add(self, faults: Iterable[Fault]) -> list[Fault]:
        """Note faults; return those that are new."""
        new = []
        for fault in faults:
            known = (fault.shard, fault.key) in self._found or (fault.shard, "") in self._found
            if not known:
                self._found[fault.shard, fault.key] = fault
                new.append(fault)
        return new

    @property
    def count(self) -> int:
        """Samples lost so far; those of a lost shard count with it."""
        shards = {fault.shard for fault in self._found.values() if not fault.key}
        return sum(fault.samples for fault in self._found.values() if not fault.key or fault.shard not in shards)

    def check(self) -> None:
        """Raise DataError above the share. One bad record among a handful is no reason to stop."""
        if self.count > max(1.0, self._max_share * self._samples):
            raise self.error()

    def error(self) -> DataError:
        """Return the error that names the last fault and the cure."""
        last = list(self._found.values())[-1]
        what = f"{last.key} in {last.shard}" if last.key else f"all of {last.shard}"
        return DataError(
            f"{self.count:,} of {self._samples:,} samples cannot be read, more than data.max_bad_share="
            f"{self._max_share:g} allows; the last is {what}: {last.reason}. Find all with `msvl data verify`, then copy the "
            "shards again, or pack the source again"
        )
