"""Finished checkpoints: which there are, whether one is whole, and which stay. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msvl.config.errors import CheckpointError
from msvl.training.state import TrainState

MARKER = "COMPLETE"


def step_folder(checkpoints: Path, step: int) -> Path:
    """Return where the checkpoint after `step` optimizer steps lies."""
    return checkpoints / f"step-{step:08d}"


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """List finished checkpoints, oldest first. Half-written ones never carry such a name."""
    return sorted(folder for folder in checkpoints.glob("step-*") if (folder / MARKER).is_file())


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def listed_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the marker says: {path in the folder: {"bytes", "sha256"}}. Raises CheckpointError when it is damaged."""
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return {name: {"bytes": int(item["bytes"]), "sha256": str(item["sha256"])} for name, item in files.items()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {MARKER} marker, so this is not a finished checkpoint") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MARKER} is damaged; remove {folder} to resume from an older one") from error


def verify(folder: Path) -> None:
    """Raise CheckpointError when a file of the checkpoint is missing or has another size than when it was saved."""
    for name, item in listed_files(folder).items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != item["bytes"]:
            what = "is missing" if found is None else f"has {found} bytes instead of {item['bytes']}"
            raise CheckpointError(
                f"{path} {what}: the checkpoint is damaged; remove {folder} to resume from an older one"
            )


def damage(folder: Path, *, part: int = 0, parts: int = 1, below: Sequence[str] = ()) -> str | None:
    """Return in words which file's bytes are not those that were saved, or None.

    Args:
        folder: A checkpoint.
        part: Read every `parts`-th file from this one on.
        parts: See `part`.
        below: Read files in these folders only.
    """
    for name, item in sorted(listed_files(folder).items())[part::parts]:
        if below and name.partition("/")[0] not in below:
            continue
        try:
            same = file_hash(folder / name) == item["sha256"]
        except OSError as error:
            return f"{folder / name} cannot be read ({error.strerror})"
        if not same:
            return f"{folder / name} is damaged (its SHA-256 is not that of what was saved)"
    return None


def scored_checkpoints(checkpoints: Path, metric: str) -> list[tuple[float, Path]]:
    """Return (recorded metric, folder) of the finished checkpoints that were judged, best first, the newest of equals first."""
    scored = []
    for folder in complete_checkpoints(checkpoints):
        value = TrainState.read(folder / "state.json").judgement.get(metric)
        if value is not None:
            scored.append((value, folder))
    return sorted(scored, key=lambda item: (item[0], item[1].name), reverse=True)


def refresh_best(checkpoints: Path, metric: str) -> None:
    """Point checkpoints/best at the finished checkpoint whose recorded `metric` is largest."""
    scored = scored_checkpoints(checkpoints, metric)
    if not scored:
        return
    temporary = checkpoints / f".best.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(scored[0][1].name)
    os.replace(temporary, checkpoints / "best")


def retire(checkpoints: Path, *, keep: int, keep_best: int, metric: str) -> list[Path]:
    """Take the marker off checkpoints beyond the newest `keep` and the best `keep_best`; return all folders without one.

    Without its marker a folder no longer counts as a checkpoint, however far its removal gets.
    """
    best = {folder for _, folder in scored_checkpoints(checkpoints, metric)[:keep_best]}
    for folder in complete_checkpoints(checkpoints)[:-keep]:
        if folder not in best:
            (folder / MARKER).unlink()
    return [folder for folder in sorted(checkpoints.glob("step-*")) if not (folder / MARKER).is_file()]


def remove(folders: Sequence[Path]) -> None:
    """Remove retired folders."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
