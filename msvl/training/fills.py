"""Filled places of a run: on disk before their step, counted by all ranks together, a stop that all agree on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from msvl.collectives.agree import all_objects
from msvl.collectives.world import rank
from msvl.config.errors import DataError
from msvl.data.batch import Batch
from msvl.data.faults import Fault, Fill, LostSamples
from msvl.data.fills import FillFile, read_fills

logger = logging.getLogger(__name__)


class FillLog:
    """Knows every place that was filled so far, on any rank."""

    def __init__(self, run: Path, *, samples: int, max_share: float) -> None:
        self.known: dict[int, Fill] = read_fills(run)
        """By position, in the order of steps where it matters: what a resume fills the same way."""
        self._file = FillFile(run, rank())
        self._lost = LostSamples(samples=samples, max_share=max_share)
        self._lost.add(fault for fill in self.known.values() for fault in fill.faults)
        self._unshared: list[Fill] = []

    def record(self, batch: Batch) -> bool:
        """Write this rank's new fills to disk; return whether there are any. Call before the step is taken."""
        if batch.fills:
            self._file.append(batch.fills)
            self._unshared += batch.fills
        return bool(self._unshared)

    def share(self) -> None:
        """Collective. Tell all ranks the new fills. Raises DataError on all of them above the share of lost samples."""
        gathered = [fill for fills in all_objects(self._unshared) for fill in fills]
        self._unshared = []
        self.known |= {fill.position: fill for fill in gathered}
        self._name(self._lost.add(fault for fill in gathered for fault in fill.faults))
        try:
            self._lost.check()
        except DataError as error:
            error.on_all_ranks()
            raise

    def before(self, step: int) -> dict[str, int]:
        """Return what a checkpoint after `step` steps says: filled places, and samples lost, over all ranks."""
        fills = [fill for fill in self.known.values() if fill.step < step]
        lost = LostSamples(samples=1, max_share=1.0)
        lost.add(fault for fill in fills for fault in fill.faults)
        return {"places": len(fills), "lost_samples": lost.count}

    def _name(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if fault.key:
                logger.warning(
                    "sample %s of %s cannot be used and is replaced: %s", fault.key, fault.shard, fault.reason
                )
            else:
                logger.warning(
                    "shard %s is lost, its %d samples are replaced: %s", fault.shard, fault.samples, fault.reason
                )
