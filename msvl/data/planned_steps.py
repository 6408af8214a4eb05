"""A rank's positions and what the plan puts there, planned for many steps at once: a call has costs of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvl.data.order import rank_positions
from msvl.data.plan import Plan

PLACES_AHEAD = 4096
"""Places planned at once: 2 to 4 ms of work."""
STEPS_AHEAD = 64


@dataclass(frozen=True)
class Share:
    """Which part of which batches a rank reads."""

    global_batch: int
    rank: int = 0
    world: int = 1

    def positions(self, step: int) -> range:
        """Return this rank's positions of a step."""
        return rank_positions(step, global_batch=self.global_batch, rank=self.rank, world=self.world)


class PlannedSteps:
    """What every place of a rank's steps reads. Any step may be asked for; those of one stride are cheapest."""

    def __init__(self, plan: Plan, share: Share, *, stride: int) -> None:
        """Prepare.

        Args:
            plan: What every position reads.
            share: Which positions this rank reads.
            stride: Steps between two that this process is asked for: the number of loader processes.
        """
        self._plan = plan
        self._share = share
        self._stride = stride
        self._ahead = max(1, min(STEPS_AHEAD, PLACES_AHEAD // len(share.positions(0))))
        self._known: dict[int, list[tuple[int, int, int]]] = {}

    def __call__(self, step: int) -> tuple[range, list[tuple[int, int, int]]]:
        """Return positions, and (source, epoch, row) of each."""
        if step not in self._known:
            steps = [step + number * self._stride for number in range(self._ahead)]
            located = self._plan.locate(np.concatenate([np.array(self._share.positions(one)) for one in steps]))
            places = list(zip(*(column.tolist() for column in located), strict=True))
            size = len(places) // len(steps)
            self._known = {one: places[number * size : (number + 1) * size] for number, one in enumerate(steps)}
        return self._share.positions(step), self._known[step]
