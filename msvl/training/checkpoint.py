"""What a checkpoint holds: taken from an engine, and given back to one.

checkpoints/step-00001000/ holds `engine/` (DeepSpeed's files, one optimizer shard per rank), `rng/` (one file per rank),
`model/` (the exported model), `state.json` (what a resume needs) and, last, `COMPLETE` (size and hash of every file).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msvl.collectives.agree import first_message
from msvl.collectives.world import rank, world_size
from msvl.config.errors import CheckpointError
from msvl.training.engine import Engine
from msvl.training.finished import damage
from msvl.training.resharding import load_resharded
from msvl.training.state import TrainState
from msvl.training.storage import MemoryStorage, copied, read_torch


@dataclass(frozen=True)
class Snapshot:
    """This rank's part of a checkpoint."""

    state: TrainState
    files: list[tuple[str, Any]]
    """(path in the checkpoint's folder, what torch writes there)."""
    weights: dict[str, torch.Tensor] | None
    """The root module's whole weights, on rank 0."""


def capture(engine: Engine, state: TrainState, *, copies: bool) -> Snapshot:
    """Collective. Take everything that a resume needs; with `copies` nothing in it changes when training goes on."""
    storage = MemoryStorage(copies=copies)
    deepspeed = engine.deepspeed
    deepspeed.checkpoint_engine = storage
    # DeepSpeed would copy a script beside the weights, on rank 0 only and without a net.
    deepspeed._copy_recovery_script = lambda path: None
    deepspeed.save_checkpoint("checkpoint", tag="engine", save_latest=False)
    deepspeed.checkpoint_engine = MemoryStorage()
    files = [(str(Path(path).relative_to("checkpoint")), value) for path, value in storage.taken]
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    files.append((f"rng/rank-{rank():05d}.pt", generators))
    weights = full_state_dict(engine)
    kept = (copied(weights) if copies else weights) if rank() == 0 else None
    return Snapshot(state, files, kept)


def load(engine: Engine, folder: Path) -> TrainState:
    """Collective. Restore engine and RNG from a checkpoint; return the state, on any number of ranks that fits.

    `Prepared.newest_checkpoint` has checked the files and that they fit.
    """
    state = TrainState.read(folder / "state.json")
    _check_content(folder)
    deepspeed, same_world = engine.deepspeed, state.world == world_size()
    if same_world or not deepspeed.zero_optimization_stage():
        deepspeed.checkpoint_engine = MemoryStorage()
        path, _ = deepspeed.load_checkpoint(str(folder), tag="engine", load_lr_scheduler_states=False)
        if path is None:
            raise CheckpointError(f"{folder}: DeepSpeed found nothing to load in engine/; remove the folder")
    else:
        load_resharded(deepspeed, folder / "engine", world=state.world)
    if same_world:
        _load_rng(folder)
    else:
        _new_rng(state)
    return replace(state, world=world_size())


def full_state_dict(engine: Engine) -> dict[str, torch.Tensor]:
    """Collective. Return the root module's whole weights (on rank 0; ZeRO-3 gives other ranks an empty dictionary)."""
    if engine.deepspeed.zero_optimization_stage() == 3:
        return engine.deepspeed._zero3_consolidated_16bit_state_dict() or {}
    return dict(engine.deepspeed.module.state_dict())


def _load_rng(folder: Path) -> None:
    generators = read_torch(str(folder / "rng" / f"rank-{rank():05d}.pt"), map_location="cpu")
    torch.set_rng_state(generators["cpu"])
    if torch.cuda.is_available() and "cuda" in generators:
        torch.cuda.set_rng_state(generators["cuda"])


def _new_rng(state: TrainState) -> None:
    """Seed this rank's generators (dropout) for a world that has no saved ones, the same whenever it resumes here."""
    seed = np.random.SeedSequence([state.seed, state.step, world_size(), rank()]).generate_state(1, np.uint64)
    torch.manual_seed(int(seed[0] >> np.uint64(1)))


def _check_content(folder: Path) -> None:
    """Collective. Raise CheckpointError on every rank when a file is damaged; each file is read by one of them.

    DeepSpeed loads between collectives: a rank that found its own file damaged there would leave the others waiting.
    """
    message = first_message(damage(folder, part=rank(), parts=world_size(), below=("engine", "rng")))
    if message is not None:
        raise CheckpointError(f"{message}; remove {folder} to resume from an older checkpoint").on_all_ranks()
