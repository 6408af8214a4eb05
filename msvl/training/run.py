"""One attempt of a run: build everything, train, close. All of this runs on every rank."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from msvl.collectives.agree import barrier, first_message, from_rank_zero
from msvl.collectives.group import leave_together
from msvl.collectives.strict import check_collectives, tell
from msvl.collectives.world import rank, world_size
from msvl.config.errors import CheckpointError, MsvlError, SupersededError
from msvl.config.exit_codes import REQUEUE
from msvl.data.batch import Batch
from msvl.data.make_tokens import tokens_of_run
from msvl.data.packed import PackedSet
from msvl.data.planned_steps import Share
from msvl.data.run_data import RunData
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.models.build import build_model
from msvl.monitoring.heartbeat import Heartbeat
from msvl.monitoring.observer import Observer
from msvl.monitoring.writers import WandbWriter
from msvl.objectives.total import Objectives
from msvl.training import checkpoint
from msvl.training.attempt import Attempt, build_observers, build_saver
from msvl.training.bad_batches import BadBatches
from msvl.training.config import PretrainConfig
from msvl.training.engine import Engine, build_engine, start_processes
from msvl.training.fills import FillLog
from msvl.training.finished import complete_checkpoints
from msvl.training.first_screen import say_end
from msvl.training.guard import Guard
from msvl.training.lease import Lease
from msvl.training.loop import Hooks, train
from msvl.training.module import PretrainModule
from msvl.training.optimizer import build_optimizer
from msvl.training.preemption import StopRequest
from msvl.training.prepare import Prepared
from msvl.training.saver import Saver
from msvl.training.state import TrainState
from msvl.training.validation import Validator
from msvl.training.watchdog import node_folder, start_heartbeat, start_watchdog

logger = logging.getLogger(__name__)


def run_attempt(prepared: Prepared) -> int:
    """Collective. Train to the end or to a requested stop; return the exit code."""
    config, folder = prepared.config, prepared.folder
    torch.set_num_threads(
        config.train.threads_per_rank or max(1, (os.cpu_count() or 1) // prepared.rank.local_world_size)
    )
    accelerator = start_processes(config, prepared.rank.world_size)
    check_collectives(config.train.check_collectives)
    tokeniser, module = _built(prepared)  # before the run folder is touched
    lease = _take_folder(prepared)
    prepared = _settled(prepared)
    if rank() == 0:
        _run_data(prepared).write(folder.path, fresh=prepared.checkpoint is None)
    barrier()
    folder.start_log(rank())
    heart = _start_heartbeat(prepared, lease)
    optimizer = build_optimizer(module, config.optimizer, offload=config.zero.offload == "cpu")
    engine = build_engine(accelerator, module, optimizer, accumulation=config.train.accumulation)
    state = _restore(engine, prepared)
    return _train(Attempt(engine, prepared, tokeniser, lease, heart), state)


def _built(prepared: Prepared) -> tuple[ReportTokeniser, PretrainModule]:
    """Collective. Build tokeniser and root module; what one rank cannot open is one message of all."""
    fault: str | None = None
    try:
        tokeniser = ReportTokeniser(prepared.tokenizer, prepared.config.data.report)
        module = build_module(prepared.config, prepared.packed, tokeniser)
    except MsvlError as error:
        fault = str(error)
    if message := first_message(fault):
        raise CheckpointError(message).on_all_ranks()
    return tokeniser, module


def _take_folder(prepared: Prepared) -> Lease:
    """Collective. Take the run folder from any older attempt, on rank 0."""
    folder, number = prepared.folder, 0
    if rank() == 0:
        folder.create()
        lease = Lease.take(folder.path, above=folder.last_attempt())
        lease.clear_older(folder.checkpoints)
        number = lease.number
    return Lease(folder.path, from_rank_zero(number))


def _settled(prepared: Prepared) -> Prepared:
    """Collective. Choose the checkpoint once more, on rank 0: now no older attempt can publish another."""
    if not prepared.resume:
        return prepared
    found, fault = None, None
    if rank() == 0:
        try:
            found = prepared.newest_checkpoint()
        except MsvlError as error:
            fault = str(error)
    found, fault = from_rank_zero((found, fault))
    if fault:
        raise CheckpointError(fault).on_all_ranks()
    return replace(prepared, checkpoint=found)


def _start_heartbeat(prepared: Prepared, lease: Lease) -> Heartbeat:
    """Begin this rank's heartbeat, and on the first rank of each node the watchdog."""
    config, where = prepared.config, node_folder(prepared.folder.path, lease.number)
    watched = config.train.watchdog_minutes > 0
    heart = start_heartbeat(where, rank=rank(), readers=config.data.workers, watched=watched)
    tell(heart.collective)
    if watched and prepared.rank.local_rank == 0:
        start_watchdog(
            where,
            prepared.folder.path,
            attempt=lease.number,
            world=world_size(),
            seconds=60 * config.train.watchdog_minutes,
        )
    return heart


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


def _train(attempt: Attempt, state: TrainState) -> int:
    prepared, config = attempt.prepared, attempt.prepared.config
    stop = StopRequest()
    stop.install()  # until here a signal just ends the process: there is nothing to save, and a rank may wait for another
    observers = build_observers(attempt, state)
    saver = build_saver(attempt)
    validator = Validator(config, prepared.packed, attempt.tokeniser, attempt.engine)
    fills = FillLog(prepared.folder.path, samples=prepared.data.plan.samples, max_share=config.data.max_bad_share)
    bad_batches = BadBatches(config.bad_batch, prepared.folder.path)
    hooks = Hooks(
        observers=observers,
        judge=validator.judge,
        guard=Guard(lease=attempt.lease, stop=stop, fills=fills, bad_batches=bad_batches, saver=saver),
        roll_back=lambda: _roll_back(attempt.engine, saver, prepared.folder.checkpoints),
        save=lambda state: saver.save(_with_data(state, prepared, fills)),
        saver=saver,
        heart=attempt.heart,
    )
    batches = _batches(attempt, state.step, fills)
    reason = "failed"
    try:
        state = train(attempt.engine, batches, state, config, hooks=hooks)
        reason = "finished" if state.step == config.train.steps else f"stopped by {stop.name or 'another rank'}"
    except SupersededError:
        prepared.folder.stop_log()
        # W&B's end would send what it still holds, and the run there is the newer attempt's.
        observers = [one for one in observers if not isinstance(one, WandbWriter)]
        raise
    except MsvlError as error:
        reason = f"failed: {error}"
        if error.agreed and not isinstance(error, CheckpointError):
            saver.finish()  # all ranks are here: what was being saved need not be lost
        raise
    finally:
        _close(attempt, saver, observers, reason)
    if rank() == 0:
        say_end(state, prepared, reason)
    leave_together()
    return 0


def _batches(attempt: Attempt, start_step: int, fills: FillLog) -> Iterator[Batch]:
    """Return this rank's share of every batch from the step after `start_step` on."""
    prepared, data = attempt.prepared, attempt.prepared.config.data
    stored = None
    if data.token_ids == "stored":
        stored = tokens_of_run(prepared.data.sets, data.train_split, attempt.tokeniser, data.report)
    return training_batches(
        prepared.data.plan,
        data,
        attempt.tokeniser,
        Share(prepared.config.train.global_batch, rank(), world_size()),
        start_step=start_step,
        fills=dict(fills.known),
        stored=stored,
        note=attempt.heart.reading if prepared.config.train.watchdog_minutes else None,
    )


def _close(attempt: Attempt, saver: Saver, observers: list[Observer], reason: str) -> None:
    """Let go of everything, whatever ended the training."""
    if attempt.heart.told_to_leave():
        # The watchdog has said why, and what failed here failed because other ranks have left.
        os._exit(REQUEUE)
    saver.close()
    for observer in observers:
        observer.close()
    if rank() == 0 and not attempt.lease.lost():
        attempt.prepared.folder.end_attempt(attempt.lease.number, reason)


def _with_data(state: TrainState, prepared: Prepared, fills: FillLog) -> TrainState:
    """Return a state that says how much of the data was read."""
    epoch = state.step * state.global_batch / prepared.data.plan.epoch_places
    data = prepared.data.state | {"epoch": round(epoch, 4), "fills": fills.before(state.step)}
    return replace(state, data=data)


def _roll_back(engine: Engine, saver: Saver, checkpoints: Path) -> None:
    """Collective. Put weights and optimizer back to the newest checkpoint. Raises CheckpointError where there is none."""
    saver.finish()
    finished = complete_checkpoints(checkpoints) if rank() == 0 else []
    newest: Path | None = from_rank_zero(finished[-1] if finished else None)
    if newest is None:
        raise CheckpointError(
            "there is no checkpoint to roll back to: set train.save_every lower, or bad_batch.not_finite=skip"
        ).on_all_ranks()
    checkpoint.load(engine, newest)
    if rank() == 0:
        logger.warning("weights and optimizer are those of %s again", newest)
