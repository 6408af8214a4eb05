"""The loop: batch, losses, agreement, step, observers, judgement, checkpoint, stop. Nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from msvl.data.batch import Batch
from msvl.monitoring.heartbeat import Heartbeat
from msvl.monitoring.observer import Observer
from msvl.training.config import PretrainConfig
from msvl.training.engine import Engine
from msvl.training.guard import Guard
from msvl.training.meter import Meter
from msvl.training.saver import Saver
from msvl.training.schedule import cosine_lr
from msvl.training.state import TrainState


@dataclass(frozen=True)
class Hooks:
    """What the loop calls that is not a step."""

    observers: list[Observer]
    """On rank 0; empty elsewhere."""
    judge: Callable[[int], dict[str, float]]
    """Collective. Judge on held-out data; flat metrics, the same on every rank."""
    guard: Guard
    """Asked before every update."""
    roll_back: Callable[[], None]
    """Collective. Put weights and optimizer back to the newest checkpoint."""
    save: Callable[[TrainState], None]
    """Collective. Save a checkpoint."""
    saver: Saver
    """Knows what was saved."""
    heart: Heartbeat
    """Told what begins."""


def train(
    engine: Engine, batches: Iterator[Batch], state: TrainState, config: PretrainConfig, *, hooks: Hooks
) -> TrainState:
    """Collective. Run from `state` to the last step, or to a requested stop; return the state reached (always saved)."""
    meter, heart = Meter(engine, steps=config.train.steps), hooks.heart
    while state.step < config.train.steps:
        step = state.step + 1
        heart.phase("data", step)
        batch = meter.next(batches)
        heart.phase("forward", step, batch.shown)
        losses = engine.forward(batch)
        heart.phase("agree", step)
        verdict = hooks.guard.agree(batch, losses["total"], state)
        heart.phase("backward", step)
        if verdict.action == "update":
            engine.backward_and_step(_lr(state.step, config))
        else:
            engine.forget()
        if verdict.action == "roll_back":
            hooks.roll_back()
        state = verdict.state.advanced()
        last = step == config.train.steps or verdict.stopping
        if step % config.train.log_every == 0 or last:
            heart.phase("report", step)
            report = meter.report(batch, losses, state, lr=_lr(step - 1, config))
            for observer in hooks.observers:
                observer.after_step(report)
        if step % config.validation.every == 0 or step == config.train.steps:
            heart.phase("judge", step)
            state = replace(state, judgement=hooks.judge(step))
            for observer in hooks.observers:
                observer.after_judgement(step, state.judgement)
            meter.restart()
        if step % config.train.save_every == 0 or last or hooks.saver.is_best(state.judgement):
            heart.phase("save", step)
            hooks.save(state)
            meter.restart()
        if verdict.stopping:
            break
    heart.phase("save", state.step)
    hooks.saver.finish()
    heart.phase("end", state.step)
    return state


def _lr(step: int, config: PretrainConfig) -> float:
    return cosine_lr(
        step,
        peak=config.optimizer.lr,
        warmup_steps=config.optimizer.warmup_steps,
        steps=config.train.steps,
        final_share=config.optimizer.final_lr_share,
    )
