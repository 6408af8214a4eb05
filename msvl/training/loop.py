"""The loop: batch, losses, agreement, step, observers, judgement, checkpoint, stop. Nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from msvl.collectives.reduce import maximum, mean_of, total
from msvl.collectives.world import world_size
from msvl.config.errors import ClusterError
from msvl.data.batch import Batch
from msvl.monitoring.observer import Observer, StepReport
from msvl.training.config import PretrainConfig
from msvl.training.engine import Engine
from msvl.training.fills import FillLog
from msvl.training.preemption import StopRequest
from msvl.training.schedule import cosine_lr
from msvl.training.state import TrainState

METRIC_PREFIX = "metric/"


@dataclass
class Interval:
    """Time since the last logged step."""

    began: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    pairs: int = 0


@dataclass(frozen=True)
class Hooks:
    """What the loop calls that is not a step."""

    observers: list[Observer]
    """On rank 0; empty elsewhere."""
    judge: Callable[[int], dict[str, float]]
    """Collective. Judge on held-out data; flat metrics, the same on every rank."""
    save: Callable[[TrainState], None]
    """Collective. Write a checkpoint."""
    is_best: Callable[[dict[str, float]], bool]
    """Whether a judgement beats every saved one (the same answer on every rank)."""
    fills: FillLog
    """Which places were filled by substitutes."""


def train(
    engine: Engine,
    batches: Iterator[Batch],
    state: TrainState,
    config: PretrainConfig,
    *,
    hooks: Hooks,
    stop: StopRequest,
) -> TrainState:
    """Collective. Run from `state` to the last step, or to a requested stop; return the state reached (always saved)."""
    began, interval = time.perf_counter(), Interval()
    saved = state.step
    while state.step < config.train.steps:
        waiting = time.perf_counter()
        batch = next(batches)
        interval.waited += time.perf_counter() - waiting
        interval.pairs += len(batch.keys)
        losses = engine.forward(batch)
        filled = hooks.fills.record(batch)
        stopping, filled = _agree(losses["total"], stop, state.step, engine.device, filled=filled)
        if filled:
            hooks.fills.share()
        engine.backward_and_step(_lr(state.step, config))
        state = state.advanced()
        last = state.step == config.train.steps or stopping
        if state.step % config.train.log_every == 0 or last:
            report = _report(engine, batch, losses, state, config, interval=interval, began=began)
            for observer in hooks.observers:
                observer.after_step(report)
            interval = Interval()
        if state.step % config.validation.every == 0 or state.step == config.train.steps:
            judgement = hooks.judge(state.step)
            state = TrainState(**{**state.__dict__, "judgement": judgement})
            for observer in hooks.observers:
                observer.after_judgement(state.step, judgement)
            interval = Interval()
        if state.step % config.train.save_every == 0 or last or hooks.is_best(state.judgement):
            hooks.save(state)
            saved, interval = state.step, Interval()
        if stopping:
            break
    if saved != state.step:
        hooks.save(state)
    return state


def _lr(step: int, config: PretrainConfig) -> float:
    return cosine_lr(
        step,
        peak=config.optimizer.lr,
        warmup_steps=config.optimizer.warmup_steps,
        steps=config.train.steps,
        final_share=config.optimizer.final_lr_share,
    )


def _agree(loss: Tensor, stop: StopRequest, step: int, device: torch.device, *, filled: bool) -> tuple[bool, bool]:
    """Collective. Stop every rank before the update when any loss is not finite.

    Returns:
        Whether any rank wants to stop, and whether any has filled places to tell of.
    """
    own = torch.tensor([float(stop.asked), float(filled)], device=device)
    votes = torch.cat([(~torch.isfinite(loss.detach())).float().reshape(1), own])
    not_finite, stopping, told = maximum(votes).tolist()
    if not_finite:
        error = ClusterError(
            f"step {step + 1}: the loss is not finite, so the update was not made; lower optimizer.lr, lengthen "
            "optimizer.warmup_steps or set train.gradient_clipping, then --resume from the last checkpoint"
        )
        error.agreed = True
        raise error
    return bool(stopping), bool(told)


def _report(
    engine: Engine,
    batch: Batch,
    losses: dict[str, Tensor],
    state: TrainState,
    config: PretrainConfig,
    *,
    interval: Interval,
    began: float,
) -> StepReport:
    now = time.perf_counter()
    elapsed = max(now - interval.began, 1e-9)
    values = mean_of(losses)
    waiting = maximum(torch.tensor([interval.waited / elapsed], device=engine.device)).item()
    digest = int(total(batch.ids.sample.sum().reshape(1).to(engine.device)).item()) & (2**63 - 1)
    return StepReport(
        step=state.step,
        steps=config.train.steps,
        losses={name: value for name, value in values.items() if not name.startswith(METRIC_PREFIX)},
        metrics={
            name.removeprefix(METRIC_PREFIX): value for name, value in values.items() if name.startswith(METRIC_PREFIX)
        },
        lr=_lr(state.step - 1, config),
        gradient_norm=engine.gradient_norm,
        skipped_steps=engine.skipped_steps,
        pairs_per_second=interval.pairs * world_size() / elapsed,
        waiting_share=waiting,
        samples_digest=digest,
        seconds=now - began,
    )
