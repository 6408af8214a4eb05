"""Checkpoints that a kill cannot break: written aside, agreed on by all ranks, marked, renamed.

checkpoints/step-00001000/ holds `engine/` (DeepSpeed's files, one optimizer shard per rank), `rng/` (one file per rank),
`model/` (the exported model), `state.json` (what a resume needs) and, last, `COMPLETE` (name and size of every file).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from msvl.collectives.agree import barrier, first_message
from msvl.collectives.world import rank, world_size
from msvl.config.errors import CheckpointError
from msvl.training.engine import Engine
from msvl.training.finished import MARKER, complete_checkpoints, step_folder
from msvl.training.state import TrainState
from msvl.training.storage import AgreedStorage, archive_damage, explain_write_error, read_torch, write_torch

PARTIAL = ".partial-"


def save(
    engine: Engine,
    state: TrainState,
    checkpoints: Path,
    *,
    export: Callable[[dict[str, torch.Tensor], Path], None],
) -> Path:
    """Collective. Save everything that a resume needs, or raise CheckpointError on every rank and leave nothing visible.

    `export(state_dict, folder)` writes the model for evaluation; it is called on rank 0 only.
    """
    final = step_folder(checkpoints, state.step)
    if (final / MARKER).is_file():
        return final
    partial = checkpoints / f"{PARTIAL}{final.name}"
    _prepare(partial, checkpoints)
    failure = _save_engine(engine, partial) or _attempt(lambda: _save_rng(partial), partial / "rng")
    weights = full_state_dict(engine)
    if failure is None and rank() == 0:
        failure = _attempt(lambda: _save_rank_zero(weights, state, partial, export), partial / "model")
    _raise_if_any(failure, partial)
    if rank() == 0:
        failure = _attempt(lambda: _publish(partial, final), final)
    _raise_if_any(failure, partial)
    return final


def load(engine: Engine, folder: Path) -> TrainState:
    """Collective. Restore engine and RNG from a checkpoint of the same number of ranks; return the state.

    `finished.newest` has checked the files and that they fit, before the process group came up.
    """
    state = TrainState.read(folder / "state.json")
    _check_content(folder)
    engine.deepspeed.checkpoint_engine = AgreedStorage()
    path, _ = engine.deepspeed.load_checkpoint(str(folder), tag="engine", load_lr_scheduler_states=False)
    if path is None:
        raise CheckpointError(f"{folder}: DeepSpeed found nothing to load in engine/; remove the folder")
    generators = read_torch(str(folder / "rng" / f"rank-{rank():05d}.pt"), map_location="cpu")
    torch.set_rng_state(generators["cpu"])
    if torch.cuda.is_available() and "cuda" in generators:
        torch.cuda.set_rng_state(generators["cuda"])
    return state


def _check_content(folder: Path) -> None:
    """Collective. Raise CheckpointError on every rank when a file is damaged; each file is read by one of them.

    DeepSpeed loads between collectives: a rank that found its own file damaged there would leave the others waiting.
    """
    files = [*sorted((folder / "engine").glob("*.pt")), *sorted((folder / "rng").glob("*.pt"))]
    damage = next((found for file in files[rank() :: world_size()] if (found := archive_damage(file))), None)
    message = first_message(damage)
    if message is not None:
        error = CheckpointError(f"{message}; remove {folder} to resume from an older checkpoint")
        error.agreed = True
        raise error


def full_state_dict(engine: Engine) -> dict[str, torch.Tensor]:
    """Collective. Return the root module's whole weights (on rank 0; ZeRO-3 gives other ranks an empty dictionary)."""
    if engine.deepspeed.zero_optimization_stage() == 3:
        return engine.deepspeed._zero3_consolidated_16bit_state_dict() or {}
    return dict(engine.deepspeed.module.state_dict())


def refresh_best(checkpoints: Path, metric: str) -> Path | None:
    """Point checkpoints/best at the finished checkpoint whose recorded `metric` is largest (the newest of equals)."""
    scored = []
    for folder in complete_checkpoints(checkpoints):
        value = TrainState.read(folder / "state.json").judgement.get(metric)
        if value is not None:
            scored.append((value, folder.name))
    if not scored:
        return None
    best = max(scored)[1]
    temporary = checkpoints / f".best.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(best)
    os.replace(temporary, checkpoints / "best")
    return checkpoints / best


def prune(checkpoints: Path, *, keep: int, best: Path | None) -> None:
    """Remove finished checkpoints beyond the newest `keep`, never the best one."""
    for folder in complete_checkpoints(checkpoints)[:-keep]:
        if best is not None and folder.name == best.name:
            continue
        # Without its marker it no longer counts as a checkpoint, however far the removal gets.
        (folder / MARKER).unlink()
        shutil.rmtree(folder)


def _prepare(partial: Path, checkpoints: Path) -> None:
    failure = None
    if rank() == 0:
        failure = _attempt(lambda: _make_empty(partial, checkpoints), partial)
    _raise_if_any(failure, partial)


def _make_empty(partial: Path, checkpoints: Path) -> None:
    for leftover in checkpoints.glob(f"{PARTIAL}*"):
        shutil.rmtree(leftover)
    (partial / "engine").mkdir(parents=True)
    (partial / "rng").mkdir()


def _save_engine(engine: Engine, partial: Path) -> str | None:
    storage = AgreedStorage()
    deepspeed = engine.deepspeed
    deepspeed.checkpoint_engine = storage
    # DeepSpeed would copy a script beside the weights, on rank 0 only and without a net.
    deepspeed._copy_recovery_script = lambda path: None
    deepspeed.save_checkpoint(str(partial), tag="engine", save_latest=False)
    return storage.failure


def _save_rng(partial: Path) -> None:
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    write_torch(generators, str(partial / "rng" / f"rank-{rank():05d}.pt"))


def _save_rank_zero(
    weights: dict[str, torch.Tensor],
    state: TrainState,
    partial: Path,
    export: Callable[[dict[str, torch.Tensor], Path], None],
) -> None:
    export(weights, partial / "model")
    state.write(partial / "state.json")


def _publish(partial: Path, final: Path) -> None:
    files = {
        str(path.relative_to(partial)): path.stat().st_size for path in sorted(partial.rglob("*")) if path.is_file()
    }
    with open(partial / MARKER, "w", encoding="utf-8") as stream:
        json.dump({"files": files}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    if final.exists():  # a folder that lost its marker: half removed
        shutil.rmtree(final)
    os.rename(partial, final)
    descriptor = os.open(final.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _attempt(action: Callable[[], Any], path: Path) -> str | None:
    """Run `action` on this rank; return why it failed instead of leaving the other ranks alone in a collective."""
    try:
        action()
    except (OSError, RuntimeError, ValueError) as error:
        return explain_write_error(str(getattr(error, "filename", None) or path), error)
    except Exception as error:
        # safetensors raises its own class for a full disk.
        if type(error).__module__.split(".")[0] != "safetensors_rust" and "SafetensorError" not in type(error).__name__:
            raise
        return explain_write_error(str(path), error)
    return None


def _raise_if_any(failure: str | None, partial: Path) -> None:
    message = first_message(failure)
    if message is None:
        return
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
    barrier()
    error = CheckpointError(
        f"the checkpoint was not saved, older ones are untouched: {message}; free space, then --resume"
    )
    error.agreed = True
    raise error
