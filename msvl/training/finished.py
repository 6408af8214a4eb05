"""Finished checkpoints: which there are, and whether one is whole. Looked at before torch is imported."""

from __future__ import annotations

import json
from pathlib import Path

from msvl.config.errors import CheckpointError

MARKER = "COMPLETE"


def step_folder(checkpoints: Path, step: int) -> Path:
    """Return where the checkpoint after `step` optimizer steps lies."""
    return checkpoints / f"step-{step:08d}"


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """List finished checkpoints, oldest first. Half-written ones never carry such a name."""
    return sorted(folder for folder in checkpoints.glob("step-*") if (folder / MARKER).is_file())


def verify(folder: Path) -> None:
    """Raise CheckpointError when a file of the checkpoint is missing or has another size than when it was saved."""
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {MARKER} marker, so this is not a finished checkpoint") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / MARKER} is damaged; remove {folder} to resume from an older one") from error
    for name, size in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            what = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise CheckpointError(
                f"{path} {what}: the checkpoint is damaged; remove {folder} to resume from an older one"
            )
