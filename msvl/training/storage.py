"""How DeepSpeed's files are written and read: failures are remembered instead of raised, loads execute no code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from msvl.config.errors import CheckpointError

SAFE_CLASSES = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]


class AgreedStorage(TorchCheckpointEngine):
    """Writes and reads a checkpoint's files for DeepSpeed.

    DeepSpeed has barriers between its files, so a rank that raised half-way would leave the others waiting for the whole
    time-out. A failure to write is kept in `failure`; all ranks then agree on it after the last barrier.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: str | None = None

    def save(self, state_dict: Any, path: str) -> None:
        """Write and flush one file; on a full disk or the like, remember why."""
        if self.failure is not None:
            return
        try:
            write_torch(state_dict, path)
        except (OSError, RuntimeError) as error:
            self.failure = explain_write_error(path, error)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file without executing code."""
        return read_torch(path, map_location)


def write_torch(value: Any, path: str) -> None:
    """Write `value` with torch and flush it to the disk."""
    with open(path, "wb") as stream:
        torch.save(value, stream)
        stream.flush()
        os.fsync(stream.fileno())


def read_torch(path: str, map_location: Any = None) -> Any:
    """Read a file of tensors and plain values, with DeepSpeed's few classes allowed and nothing else.

    Raises CheckpointError naming the file when it is damaged or holds code.
    """
    try:
        with torch.serialization.safe_globals(SAFE_CLASSES):
            return torch.load(path, map_location=map_location, weights_only=True)
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        # torch's own text advises to load with code allowed, so it stands in the traceback of --debug only.
        raise CheckpointError(
            f"{path} cannot be read as tensors and plain values ({type(error).__name__}): the checkpoint is damaged or not "
            "msvl's; remove its folder step-... to resume from an older one"
        ) from error


def archive_damage(path: Path) -> str | None:
    """Return in words what is wrong with the bytes of a file that torch wrote, by its own checksums, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        return f"{path} is damaged ({error})"
    return f"{path} is damaged (the checksum of {part} differs)" if part else None


def explain_write_error(path: str, error: Exception) -> str:
    """Say in words why a file could not be written (a full disk shows as 'unexpected pos' without ENOSPC)."""
    folder = os.path.dirname(path) or "."
    detail = " ".join(str(error).split())[:160]
    hint = " (the disk is full)" if isinstance(error, OSError) and error.errno == 28 else ""
    if "unexpected pos" in detail or "file write failed" in detail:
        hint = " (the disk is full, or a size limit is in force)"
    return f"{path} could not be written{hint}: {detail}; {_free(folder)}"


def _free(folder: str) -> str:
    try:
        stats = os.statvfs(folder)
    except OSError:
        return "free space unknown"
    return f"{stats.f_bavail * stats.f_frsize / 1e9:.1f} GB are free there"
