"""Time and pairs between two logged steps, and the report of a logged step."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from msvl.collectives.reduce import maximum, mean_of, total
from msvl.collectives.world import world_size
from msvl.data.batch import Batch
from msvl.monitoring.observer import StepReport
from msvl.training.engine import Engine
from msvl.training.state import TrainState

METRIC_PREFIX = "metric/"


class Meter:
    """Measures one attempt."""

    def __init__(self, engine: Engine, *, steps: int) -> None:
        self._engine = engine
        self._steps = steps
        self._began = time.perf_counter()
        self.restart()

    def restart(self) -> None:
        """Begin a new interval: after a report, and after what is no training."""
        self._interval, self._waited, self._pairs = time.perf_counter(), 0.0, 0

    def next(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch, and count the wait."""
        waiting = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - waiting
        self._pairs += len(batch.keys)
        return batch

    def report(self, batch: Batch, losses: dict[str, Tensor], state: TrainState, *, lr: float) -> StepReport:
        """Collective. Report the step that led to `state`, and begin a new interval."""
        engine, now = self._engine, time.perf_counter()
        elapsed = max(now - self._interval, 1e-9)
        values = mean_of(losses)
        waiting = maximum(torch.tensor([self._waited / elapsed], device=engine.device)).item()
        digest = int(total(batch.ids.sample.sum().reshape(1).to(engine.device)).item()) & (2**63 - 1)
        pairs = self._pairs
        self.restart()
        return StepReport(
            step=state.step,
            steps=self._steps,
            losses={name: value for name, value in values.items() if not name.startswith(METRIC_PREFIX)},
            metrics={
                name.removeprefix(METRIC_PREFIX): value
                for name, value in values.items()
                if name.startswith(METRIC_PREFIX)
            },
            lr=lr,
            gradient_norm=engine.gradient_norm,
            skipped_steps=engine.skipped_steps,
            bad_batches=len(state.bad_steps),
            pairs_per_second=pairs * world_size() / elapsed,
            waiting_share=waiting,
            samples_digest=digest,
            seconds=now - self._began,
        )
