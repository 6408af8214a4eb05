"""A batch whose loss is not finite or leaps up: what happens to it, the same on every rank, and on record with its keys."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from msvl.collectives.agree import all_objects
from msvl.collectives.world import rank
from msvl.config.errors import ClusterError
from msvl.data.batch import Batch
from msvl.training.config import BadBatchConfig
from msvl.training.state import TrainState

logger = logging.getLogger(__name__)
FILE = "bad_batches.jsonl"
Action = Literal["skip", "roll_back", "stop"]
CURE = "lower optimizer.lr, lengthen optimizer.warmup_steps or set train.gradient_clipping, then --resume from the last checkpoint"


class BadBatches:
    """Judges each batch by the losses of all ranks."""

    def __init__(self, config: BadBatchConfig, run: Path) -> None:
        self._config = config
        self._path = run / FILE

    def judge(self, losses: Sequence[float], state: TrainState) -> tuple[Action, str] | None:
        """Return what to do and why, or None for a good batch.

        Args:
            losses: Total loss of each rank; their mean is the global loss.
            state: Before the step.
        """
        config = self._config
        wrong = [number for number, loss in enumerate(losses) if not math.isfinite(loss)]
        if wrong:
            return config.not_finite, f"the loss is not finite (on ranks {', '.join(map(str, wrong))})"
        usual = sum(state.recent_losses) / max(1, len(state.recent_losses))
        loss = sum(losses) / len(losses)
        if config.spike == "ignore" or len(state.recent_losses) < config.window or loss <= config.spike_factor * usual:
            return None
        return config.spike, f"the loss leaps to {loss:.4g} from {usual:.4g}"

    def note(self, state: TrainState, losses: Sequence[float]) -> TrainState:
        """Return the state with a good batch's loss on record."""
        recent = [*state.recent_losses, sum(losses) / len(losses)][-self._config.window :]
        return replace(state, recent_losses=recent)

    def handle(self, batch: Batch, losses: Sequence[float], state: TrainState, action: Action, why: str) -> TrainState:
        """Collective. Put a bad batch on record; return the state that says so.

        Raises ClusterError on every rank where the configuration stops the run.
        """
        batches: list[tuple[list[str], list[str]]] = all_objects((list(batch.keys), list(batch.shown)))
        step = batch.step + 1
        if rank() == 0:
            shown = " ".join(name for _, names in batches for name in names)
            logger.warning("step %d: %s: %s; sample keys: %s", step, why, action, shown)
            told = {
                "step": step,
                "why": why,
                "action": action,
                "losses": [f"{loss:.6g}" for loss in losses],
                "keys": [keys for keys, _ in batches],
            }
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(told) + "\n")
        if action == "stop":
            raise ClusterError(f"step {step}: {why}, so the update was not made; {CURE}").on_all_ranks()
        bad = [*state.bad_steps, step]
        if len(bad) > self._config.most:
            raise ClusterError(
                f"step {step}: {why}, bad batch number {len(bad)} of this run, more than bad_batch.most allows; {CURE}"
            ).on_all_ranks()
        return replace(state, bad_steps=bad)
