"""One attempt of a run: build everything, train, close. All of this runs on every rank."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from msvl.collectives.agree import barrier, from_rank_zero
from msvl.collectives.strict import check_collectives
from msvl.collectives.world import rank, world_size
from msvl.config.errors import ConfigError
from msvl.data.make_tokens import tokens_of_run
from msvl.data.packed import PackedSet
from msvl.data.planned_steps import Share
from msvl.data.run_data import RunData
from msvl.data.stream import training_batches
from msvl.data.text_statistics import unigram_entropy
from msvl.data.tokenise import ReportTokeniser
from msvl.models.build import build_model
from msvl.models.exported import save_exported
from msvl.monitoring.health import CollapseWatch, SkippedSteps
from msvl.monitoring.observer import Observer
from msvl.monitoring.writers import JsonlWriter, ProgressBar, WandbWriter
from msvl.objectives.total import Objectives
from msvl.training import checkpoint
from msvl.training.config import PretrainConfig
from msvl.training.engine import Engine, build_engine, start_processes
from msvl.training.fills import FillLog
from msvl.training.loop import Hooks, train
from msvl.training.module import PretrainModule
from msvl.training.optimizer import build_optimizer
from msvl.training.preemption import StopRequest
from msvl.training.prepare import Prepared
from msvl.training.run_folder import RunFolder
from msvl.training.state import TrainState
from msvl.training.validation import Validator

logger = logging.getLogger(__name__)


def run_attempt(prepared: Prepared) -> int:
    """Collective. Train to the end or to a requested stop; return the exit code."""
    config, folder = prepared.config, prepared.folder
    torch.set_num_threads(
        config.train.threads_per_rank or max(1, (os.cpu_count() or 1) // prepared.rank.local_world_size)
    )
    accelerator = start_processes(config, prepared.rank.world_size)
    check_collectives(config.train.check_collectives)
    if rank() == 0:
        folder.create()
        _run_data(prepared).write(folder.path, fresh=prepared.checkpoint is None)
    barrier()
    folder.start_log(rank())
    tokeniser = ReportTokeniser(prepared.tokenizer, config.data.report)
    module = build_module(config, prepared.packed, tokeniser)
    optimizer = build_optimizer(module, config.optimizer, offload=config.zero.offload == "cpu")
    engine = build_engine(accelerator, module, optimizer, accumulation=config.train.accumulation)
    state = _restore(engine, prepared)
    return _train(engine, state, prepared, tokeniser)


def _run_data(prepared: Prepared) -> RunData:
    train = prepared.config.train
    return RunData(train.seed, train.global_batch, prepared.data.state, prepared.config.data)


def build_module(config: PretrainConfig, packed: PackedSet, tokeniser: ReportTokeniser) -> PretrainModule:
    """Build the root module; the run's seed alone decides its parameters."""
    torch.manual_seed(config.train.seed)
    model = build_model(
        config.model,
        image_size=config.data.image_size,
        target_scale=config.data.target_scale,
        tokeniser=tokeniser,
        pixel_mean=packed.pixel_mean,
        pixel_std=packed.pixel_std,
    )
    objectives = Objectives(config.objectives, channels=config.model.channels, seed=config.train.seed)
    return PretrainModule(model, objectives, seed=config.train.seed)


def _restore(engine: Engine, prepared: Prepared) -> TrainState:
    config = prepared.config
    state = TrainState(
        step=0,
        seed=config.train.seed,
        world=world_size(),
        zero_stage=engine.deepspeed.zero_optimization_stage(),
        global_batch=config.train.global_batch,
        data_fingerprint=prepared.packed.fingerprint,
        data=prepared.data.state,
    )
    return checkpoint.load(engine, prepared.checkpoint) if prepared.checkpoint else state


def _train(engine: Engine, state: TrainState, prepared: Prepared, tokeniser: ReportTokeniser) -> int:
    config, folder = prepared.config, prepared.folder
    stop = StopRequest()
    stop.install()  # until here a signal just ends the process: there is nothing to save, and a rank may wait for another
    observers, attempt = _observers(engine, state, prepared, tokeniser)
    validator = Validator(config, prepared.packed, tokeniser, engine)
    plan = prepared.data.plan
    fills = FillLog(folder.path, samples=plan.samples, max_share=config.data.max_bad_share)
    hooks = Hooks(
        observers=observers,
        judge=validator.judge,
        save=_saver(engine, prepared, tokeniser, fills),
        is_best=_best_rule(folder, config.validation.best_metric),
        fills=fills,
    )
    stored = None
    if config.data.token_ids == "stored":
        stored = tokens_of_run(prepared.data.sets, config.data.train_split, tokeniser, config.data.report)
    batches = training_batches(
        plan,
        config.data,
        tokeniser,
        Share(config.train.global_batch, rank(), world_size()),
        start_step=state.step,
        fills=dict(fills.known),
        stored=stored,
    )
    reason = "failed"
    try:
        state = train(engine, batches, state, config, hooks=hooks, stop=stop)
        reason = "finished" if state.step == config.train.steps else f"stopped by {stop.name or 'another rank'}"
    finally:
        for observer in observers:
            observer.close()
        if attempt is not None:
            folder.end_attempt(reason)
    if rank() == 0:
        _say_end(state, prepared, reason)
    return 0


def _observers(
    engine: Engine, state: TrainState, prepared: Prepared, tokeniser: ReportTokeniser
) -> tuple[list[Observer], int | None]:
    if rank() != 0:
        return [], None
    config, folder = prepared.config, prepared.folder
    described = engine.deepspeed.module.model.config
    facts = engine.facts() | {
        "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in engine.deepspeed.module.parameters()),
        "image_encoder": _size(config.model.image.family, described.image_network),
        "text_encoder": _size(config.model.text.family, described.text_network),
        "threads_per_rank": torch.get_num_threads(),
        "data_fingerprint": prepared.packed.fingerprint,
        "unigram_entropy": round(
            unigram_entropy(prepared.packed.split(config.data.train_split), tokeniser, config.data.report), 4
        ),
    }
    attempt = folder.begin_attempt(config, facts=facts, resumed_at=state.step)
    sys.stderr.write(first_screen(prepared, facts, state))
    sys.stderr.flush()
    observers: list[Observer] = [
        JsonlWriter(folder.metrics, attempt),
        CollapseWatch(),
        SkippedSteps(engine.skipped_steps),
    ]
    if config.wandb.enabled:
        observers.append(
            WandbWriter(
                folder.path,
                project=config.wandb.project,
                entity=config.wandb.entity,
                name=config.run.name,
                config=config.model_dump(mode="json", by_alias=True) | {"facts": facts},
            )
        )
    observers.append(ProgressBar(state.step, config.train.steps))
    return observers, attempt


def _size(family: str, network: dict[str, Any]) -> str:
    """Return 'vit 768x12': what was built, published weights included."""
    return f"{family} {network['hidden_size']}x{network['num_hidden_layers']}"


def first_screen(prepared: Prepared, facts: dict[str, object], state: TrainState) -> str:
    """Say in ten lines what will happen."""
    config, folder = prepared.config, prepared.folder.path
    weights = config.objectives
    scales = {
        "global": weights.global_.weight,
        "local": weights.local.weight,
        "instance": weights.instance.weight,
        "modality": weights.modality.weight,
    } | {name: custom.weight for name, custom in weights.custom.items()}
    epochs = config.train.steps * config.train.global_batch / prepared.data.plan.epoch_places
    lines = [
        f"msvl run {config.run.name}" + (f", resumed after step {state.step:,}" if state.step else ""),
        f"  model       {facts['parameters']:,} parameters, image {facts['image_encoder']}, text {facts['text_encoder']}, "
        f"shared channels {config.model.channels}",
        f"  data        {_described(prepared)}, {config.data.image_size} px"
        + (
            f", masked patches at {config.data.image_size * config.data.target_scale} px"
            if config.data.target_scale > 1
            else ""
        ),
        "  objectives  " + ", ".join(f"{name} x {weight:g}" for name, weight in scales.items()),
        f"  batch       {config.train.global_batch} = {facts['ranks']} ranks x {facts['micro_batch']} x accumulation "
        f"{facts['accumulation']}"
        + {
            "cached": ", gradients of the whole batch (cached)",
            "none": "",
            "plain": ", PLAIN: each micro-batch contrasts with itself alone, which is another objective",
        }[str(facts["accumulation_kind"])],
        f"  engine      DeepSpeed ZeRO-{facts['zero_stage']}, {facts['precision']}, {facts['device']}, "
        f"{facts['threads_per_rank']} threads per rank",
        f"  steps       {state.step:,} -> {config.train.steps:,} ({epochs:.1f} epochs), judged every "
        f"{config.validation.every:,}, saved every {config.train.save_every:,}",
        f"  folder      {folder}",
        "  stop        Ctrl-C once: finishes the step, saves, exits",
        f"  resume      msvl train {folder}/config.yaml --resume",
    ]
    return "\n".join(lines) + "\n"


def _described(prepared: Prepared) -> str:
    """Return 'shards/mine: 2,400 pairs of 900 patients', with its share where sources are mixed."""
    data, parts = prepared.config.data, []
    for packed in prepared.data.sets:
        counts = packed.counts(data.train_split)
        parts.append(f"{packed.location}: {counts['samples']:,} pairs of {counts['patients']:,} patients")
        if data.images == "one_per_study" and counts["studies"] < counts["samples"]:
            parts[-1] += f", one of each of {counts['studies']:,} studies per epoch"
    if not data.mix:
        return parts[0]
    total = sum(data.mix.values())
    shares = [f"{weight / total:.1%} {part}" for part, weight in zip(parts, data.mix.values(), strict=True)]
    return "; ".join(shares) + f"; an epoch is {prepared.data.plan.epoch_places:,} samples"


def _saver(
    engine: Engine, prepared: Prepared, tokeniser: ReportTokeniser, fills: FillLog
) -> Callable[[TrainState], None]:
    config, folder = prepared.config, prepared.folder

    def export(weights: dict[str, torch.Tensor], target: Path) -> None:
        prefix = "model."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        save_exported(
            target,
            config=engine.deepspeed.module.model.config,
            state_dict=own,
            tokeniser=tokeniser,
            data=config.data,
            sources=[{"name": packed.name, "licence": packed.licence} for packed in prepared.data.sets],
        )

    def save(state: TrainState) -> None:
        epoch = state.step * state.global_batch / prepared.data.plan.epoch_places
        data = prepared.data.state | {"epoch": round(epoch, 4), "fills": fills.before(state.step)}
        state = replace(state, data=data)
        checkpoint.save(engine, state, folder.checkpoints, export=export)
        if rank() == 0:
            best = checkpoint.refresh_best(folder.checkpoints, config.validation.best_metric)
            checkpoint.prune(folder.checkpoints, keep=config.train.keep, best=best)
        barrier()

    return save


def _best_rule(folder: RunFolder, metric: str) -> Callable[[dict[str, float]], bool]:
    def is_best(judgement: dict[str, float]) -> bool:
        if not judgement:
            return False
        if metric not in judgement:
            error = ConfigError(
                f"validation.best_metric '{metric}' cannot be measured on the validation split (no labels?); measured: "
                f"{', '.join(sorted(judgement))}: set one of them, then --resume"
            )
            error.agreed = True
            raise error
        if rank() != 0:
            return bool(from_rank_zero(None))
        saved = [
            TrainState.read(path / "state.json").judgement.get(metric, float("-inf"))
            for path in checkpoint.complete_checkpoints(folder.checkpoints)
        ]
        return bool(from_rank_zero(judgement[metric] > max(saved, default=float("-inf"))))

    return is_best


def _say_end(state: TrainState, prepared: Prepared, reason: str) -> None:
    folder = prepared.folder.path
    if reason == "finished":
        text = f"Finished {state.step:,} steps: {folder}\nNext: msvl evaluate {folder}\n"
    else:
        text = f"Run {reason} after step {state.step:,}, saved.\nNext: msvl train {folder}/config.yaml --resume\n"
    sys.stderr.write(text)
