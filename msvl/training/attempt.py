"""What the parts of one attempt share, and those of them that are built from all of it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from msvl.collectives.world import rank
from msvl.data.text_statistics import unigram_entropy
from msvl.data.tokenise import ReportTokeniser
from msvl.models.exported import save_exported
from msvl.monitoring.health import CollapseWatch, SkippedSteps
from msvl.monitoring.heartbeat import Heartbeat
from msvl.monitoring.observer import Observer
from msvl.monitoring.writers import JsonlWriter, ProgressBar, WandbWriter
from msvl.training.engine import Engine
from msvl.training.first_screen import PLAIN, first_screen
from msvl.training.lease import Lease
from msvl.training.prepare import Prepared
from msvl.training.saver import Retention, Saver
from msvl.training.state import TrainState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run, on this rank."""

    engine: Engine
    prepared: Prepared
    tokeniser: ReportTokeniser
    lease: Lease
    heart: Heartbeat


def build_observers(attempt: Attempt, state: TrainState) -> list[Observer]:
    """Enter the attempt in the run folder, show the first screen, and return what watches the steps: all on rank 0."""
    if rank() != 0:
        return []
    config, folder = attempt.prepared.config, attempt.prepared.folder
    facts = _facts(attempt)
    folder.begin_attempt(config, attempt.lease.number, facts=facts, resumed_at=state.step)
    sys.stderr.write(first_screen(attempt.prepared, facts, state))
    sys.stderr.flush()
    if facts["accumulation_kind"] == "plain":
        logger.warning("train.accumulation is %s", PLAIN)
    observers: list[Observer] = [
        JsonlWriter(folder.metrics, attempt.lease.number),
        CollapseWatch(),
        SkippedSteps(attempt.engine.skipped_steps),
    ]
    if config.wandb.enabled:
        observers.append(
            WandbWriter(
                folder.path,
                project=config.wandb.project,
                entity=config.wandb.entity,
                name=config.run.name,
                config=config.model_dump(mode="json", by_alias=True) | {"facts": facts},
                resumed_at=state.step,
            )
        )
    observers.append(ProgressBar(state.step, config.train.steps))
    return observers


def _facts(attempt: Attempt) -> dict[str, Any]:
    """Return what really runs, as read from the engine and the model."""
    config, module = attempt.prepared.config, attempt.engine.deepspeed.module
    train_split = attempt.prepared.packed.split(config.data.train_split)
    return attempt.engine.facts() | {
        "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in module.parameters()),
        "image_encoder": _size(config.model.image.family, module.model.config.image_network),
        "text_encoder": _size(config.model.text.family, module.model.config.text_network),
        "threads_per_rank": torch.get_num_threads(),
        "data_fingerprint": attempt.prepared.packed.fingerprint,
        "unigram_entropy": round(unigram_entropy(train_split, attempt.tokeniser, config.data.report), 4),
    }


def _size(family: str, network: dict[str, Any]) -> str:
    """Return 'vit 768x12': what was built, published weights included."""
    return f"{family} {network['hidden_size']}x{network['num_hidden_layers']}"


def build_saver(attempt: Attempt) -> Saver:
    """Return what saves checkpoints, each with the model in its exported form."""
    config = attempt.prepared.config

    def export(weights: dict[str, torch.Tensor], target: Path) -> None:
        prefix = "model."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        save_exported(
            target,
            config=attempt.engine.deepspeed.module.model.config,
            state_dict=own,
            tokeniser=attempt.tokeniser,
            data=config.data,
            sources=[{"name": packed.name, "licence": packed.licence} for packed in attempt.prepared.data.sets],
        )

    return Saver(
        attempt.engine,
        attempt.prepared.folder.checkpoints,
        attempt.lease,
        export=export,
        retention=Retention(config.train.keep, config.train.keep_best, config.validation.best_metric),
        background=config.train.background_saves,
    )
