"""Files of a checkpoint: read without executing code, written or the failure kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from msvl.config.errors import CheckpointError
from msvl.training.storage import AgreedStorage


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
        AgreedStorage().load(str(tmp_path / "hostile.pt"))
    assert "mkdir" in str(caught.value.__cause__)
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "hostile.pt", weights_only=False)
    assert (tmp_path / "executed").exists(), "the file was harmless, so the test proved nothing"


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"PK\x03\x04" + b"y" * 500])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged.pt cannot be read .* remove its folder"):
        AgreedStorage().load(str(tmp_path / "damaged.pt"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    storage = AgreedStorage()
    storage.save({"weights": torch.arange(3.0), "step": 7}, str(tmp_path / "a.pt"))
    assert storage.failure is None
    found = storage.load(str(tmp_path / "a.pt"))
    assert found["step"] == 7
    assert torch.equal(found["weights"], torch.arange(3.0))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the kernel's always full device")
def test_a_full_disk_is_kept_until_all_ranks_agree() -> None:
    storage = AgreedStorage()
    storage.save({"weights": torch.zeros(100_000)}, "/dev/full")
    assert storage.failure is not None
    assert "/dev/full could not be written (the disk is full" in storage.failure
