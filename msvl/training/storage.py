"""How DeepSpeed's files are taken, written and read: what is saved is kept in memory first, loads execute no code."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
from collections import OrderedDict
from typing import IO, Any

import torch
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from msvl.config.errors import CheckpointError

SAFE_CLASSES = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]


class MemoryStorage(TorchCheckpointEngine):
    """Takes what DeepSpeed saves, for somebody else to write, and reads files for it.

    DeepSpeed has barriers between its files, so a rank whose disk fails half-way would leave the others waiting. Nothing is
    written here: a failure to write comes later, and all ranks agree on it.
    """

    def __init__(self, *, copies: bool = False) -> None:
        """With `copies`, tensors are copied to the CPU's memory, so that training may go on before they are written."""
        super().__init__()
        self.taken: list[tuple[str, Any]] = []
        """(path, value) of each file."""
        self._copies = copies

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Leave folders to who writes."""

    def save(self, state_dict: Any, path: str) -> None:
        """Take one file."""
        self.taken.append((path, copied(state_dict) if self._copies else state_dict))

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file without executing code."""
        return read_torch(path, map_location)


class HashedStream:
    """A file that is written from front to back, and its SHA-256. torch asks for no more than `write` and `flush`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and hash."""
        self._hash.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._stream.flush()

    def digest(self) -> str:
        """Return the hash of what was written so far."""
        return self._hash.hexdigest()


def copied(value: Any) -> Any:
    """Return a copy that training does not change, its tensors in the CPU's memory and no larger than they look."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, OrderedDict):
        return OrderedDict((key, copied(item)) for key, item in value.items())
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(item) for item in value)
    return copy.deepcopy(value)


def write_torch(value: Any, path: str) -> str:
    """Write `value` with torch and flush it to the disk; return the SHA-256 of the file."""
    with open(path, "wb") as stream:
        hashed = HashedStream(stream)
        torch.save(value, hashed)  # type: ignore[arg-type]
        stream.flush()
        os.fsync(stream.fileno())
        return hashed.digest()


def read_torch(path: str, map_location: Any = None, *, mmap: bool = False) -> Any:
    """Read a file of tensors and plain values, with DeepSpeed's few classes allowed and nothing else.

    With `mmap`, a tensor's bytes are read when they are used. Raises CheckpointError naming the file when it is damaged or
    holds code.
    """
    try:
        with torch.serialization.safe_globals(SAFE_CLASSES):
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        # torch's own text advises to load with code allowed, so it stands in the traceback of --debug only.
        raise CheckpointError(
            f"{path} cannot be read as tensors and plain values ({type(error).__name__}): the checkpoint is damaged or not "
            "msvl's; remove its folder step-... to resume from an older one"
        ) from error


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
