"""Files of a checkpoint: read without executing code, written or the failure kept."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from msvl.config.errors import CheckpointError
from msvl.training.saver import _attempt
from msvl.training.storage import MemoryStorage, copied, read_torch, write_torch


class Touch:
    """Creates a file when it is unpickled, as a hostile checkpoint would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.evidence("A checkpoint's files are read without executing code", how="cpu")
def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    torch.save({"step": Touch(tmp_path / "executed")}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="hostile.pt cannot be read as tensors") as caught:
        MemoryStorage().load(str(tmp_path / "hostile.pt"))
    assert "mkdir" in str(caught.value.__cause__)
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "hostile.pt", weights_only=False)
    assert (tmp_path / "executed").exists(), "the file was harmless, so the test proved nothing"


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"PK\x03\x04" + b"y" * 500])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged.pt cannot be read .* remove its folder"):
        MemoryStorage().load(str(tmp_path / "damaged.pt"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.save({"weights": torch.arange(3.0), "step": 7}, str(tmp_path / "a.pt"))
    ((path, value),) = storage.taken
    digest = write_torch(value, path)
    assert digest == hashlib.sha256((tmp_path / "a.pt").read_bytes()).hexdigest()
    for found in (storage.load(path), read_torch(path, mmap=True)):
        assert found["step"] == 7
        assert torch.equal(found["weights"], torch.arange(3.0))


def test_a_copy_does_not_change_with_training() -> None:
    flat = torch.arange(100.0)
    saved = {"part": flat[10:12], "names": OrderedDict(a=[flat[3:4], (1, "x")]), "size": torch.Size([3])}
    kept = copied(saved)
    flat.zero_()
    assert kept["part"].tolist() == [10.0, 11.0]
    assert kept["names"]["a"][0].tolist() == [3.0]
    assert (type(kept["names"]), kept["names"]["a"][1], kept["size"]) == (OrderedDict, (1, "x"), torch.Size([3]))
    assert kept["part"].untyped_storage().nbytes() == 8, "a view is saved without the tensor that it looks into"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the kernel's always full device")
def test_a_full_disk_is_kept_until_all_ranks_agree() -> None:
    failure = _attempt(lambda: write_torch({"weights": torch.zeros(100_000)}, "/dev/full"), Path("/dev/full"))
    assert failure is not None
    assert "/dev/full could not be written (the disk is full" in failure
