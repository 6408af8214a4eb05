"""From what a user names (a run, a checkpoint, an exported model) to the model's folder and where its figures go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msvl.config.errors import CheckpointError

WEIGHTS = "model.safetensors"
"""A folder with this file is an exported model."""
FINISHED = "COMPLETE"
"""A checkpoint without this file was never finished."""


@dataclass(frozen=True)
class ModelPlace:
    """A model to judge."""

    model: Path
    """Exported model: configuration and weights."""
    run: Path | None
    """The run that it belongs to, None for a model on its own."""
    step: int | None
    """Optimizer steps behind it, None when unknown."""

    @property
    def evaluations(self) -> Path:
        """Return the folder for figures: the run's, or one beside the model's files (NAME-evaluation beside NAME.yaml)."""
        if self.model.is_file():
            return self.model.with_name(f"{self.model.stem}-evaluation")
        return (self.run or self.model) / "evaluation"


def locate_model(path: Path) -> ModelPlace:
    """Accept a run folder (its best checkpoint, else its newest), a checkpoint folder or an exported model.

    Raises:
        CheckpointError: There is none of them; the message says what is there.
    """
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {path}: name a run (runs/NAME), a checkpoint or an exported model")
    if (path / WEIGHTS).is_file():
        return _of_model(path)
    if (path / "model").is_dir():
        return _of_checkpoint(path)
    if (path / "checkpoints").is_dir():
        return _of_checkpoint(_best_or_newest(path / "checkpoints"))
    raise CheckpointError(
        f"{path} is neither a run (no checkpoints/), nor a checkpoint (no model/), nor an exported model (no "
        f"{WEIGHTS}): name the folder that `msvl train` wrote"
    )


def _best_or_newest(checkpoints: Path) -> Path:
    best = checkpoints / "best"
    if best.exists():
        return best.resolve()
    finished = sorted(folder for folder in checkpoints.glob("step-*") if (folder / FINISHED).is_file())
    if not finished:
        raise CheckpointError(f"{checkpoints} holds no finished checkpoint: let `msvl train` reach its first save")
    return finished[-1]


def _of_checkpoint(folder: Path) -> ModelPlace:
    folder = folder.resolve()
    if not (folder / "model" / WEIGHTS).is_file():
        raise CheckpointError(f"{folder / 'model' / WEIGHTS} is missing: the checkpoint is incomplete, use another one")
    if folder.name.startswith("step-") and not (folder / FINISHED).is_file():
        raise CheckpointError(f"{folder} has no {FINISHED} marker, so it was never finished: use another checkpoint")
    return _of_model(folder / "model")


def _of_model(folder: Path) -> ModelPlace:
    folder = folder.resolve()
    checkpoint = folder.parent
    is_ours = folder.name == "model" and checkpoint.parent.name == "checkpoints"
    step = checkpoint.name.removeprefix("step-")
    return ModelPlace(
        model=folder,
        run=checkpoint.parent.parent if is_ours else None,
        step=int(step) if is_ours and step.isdigit() else None,
    )
