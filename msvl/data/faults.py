"""Records that cannot be read: logged once by key, counted, filled by a substitute, and a stop above a set share."""

from __future__ import annotations

import logging

from msvl.config.errors import DataError

logger = logging.getLogger(__name__)


class Faults:
    """Counts distinct unreadable samples of one reader."""

    def __init__(self, *, samples: int, max_share: float) -> None:
        # One bad record among a handful is no reason to stop.
        self._limit = max(1.0, max_share * samples)
        self._samples = samples
        self._max_share = max_share
        self.keys: dict[str, str] = {}
        """Key -> why, in order of discovery."""

    def note(self, key: str, shard: str, reason: str) -> None:
        """Record an unreadable sample. Raises DataError above the share."""
        if key in self.keys:
            return
        self.keys[key] = reason
        logger.warning("sample %s of %s cannot be used and is replaced: %s", key, shard, reason)
        if len(self.keys) > self._limit:
            raise DataError(
                f"{len(self.keys):,} of {self._samples:,} samples cannot be read, more than data.max_bad_share="
                f"{self._max_share:g} allows; the last is {key} in {shard}: {reason}. Find all with `msvl data verify`, "
                "then pack the source again"
            )
