"""What all ranks agree on before the update of a step: one gathered row per rank, the same verdict everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msvl.collectives.gather import gather
from msvl.collectives.world import rank
from msvl.data.batch import Batch
from msvl.training.bad_batches import BadBatches
from msvl.training.fills import FillLog
from msvl.training.lease import Lease
from msvl.training.preemption import StopRequest
from msvl.training.saver import Saver
from msvl.training.state import TrainState


@dataclass(frozen=True)
class Verdict:
    """The same on every rank."""

    action: Literal["update", "skip", "roll_back"]
    """What becomes of the batch."""
    stopping: bool
    """Save after this step and end."""
    state: TrainState
    """With this batch on record, before the step is counted."""


class Guard:
    """Asks every rank before every update."""

    def __init__(
        self, *, lease: Lease, stop: StopRequest, fills: FillLog, bad_batches: BadBatches, saver: Saver
    ) -> None:
        self._lease = lease
        self._stop = stop
        self._fills = fills
        self._bad_batches = bad_batches
        self._saver = saver

    def agree(self, batch: Batch, loss: Tensor, state: TrainState) -> Verdict:
        """Collective. Decide about the update that this batch asks for, and finish a save that all ranks have written.

        Args:
            batch: This rank's share.
            loss: Its total loss.
            state: Before the step.

        Raises:
            SupersededError: A newer attempt has the run folder.
            DataError: More samples were lost than the configuration allows.
            CheckpointError: The save under way failed on a rank.
            ClusterError: The batch is bad, and the configuration stops the run.
        """
        lost = (rank() == 0 or bool(batch.fills)) and self._lease.lost()
        filled = not lost and self._fills.record(batch)
        said = [float(answer) for answer in (lost, self._stop.asked, filled, self._saver.writing_here())]
        row = torch.cat([loss.detach().float().reshape(1), torch.tensor(said, device=loss.device)])
        rows = gather(row.unsqueeze(0))  # [W, 5]
        superseded, stopping, told, writing = rows[:, 1:].amax(dim=0).tolist()
        if superseded:
            raise self._lease.error()
        if told:
            self._fills.share()
        if self._saver.under_way and not writing:
            self._saver.finish()
        losses = rows[:, 0].tolist()
        bad = self._bad_batches.judge(losses, state)
        if bad is None:
            return Verdict("update", bool(stopping), self._bad_batches.note(state, losses))
        action, why = bad
        state = self._bad_batches.handle(batch, losses, state, action, why)
        return Verdict("skip" if action == "skip" else "roll_back", bool(stopping), state)
