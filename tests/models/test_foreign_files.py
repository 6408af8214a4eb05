"""Files of weights: what is safe to read, and where in them the weights are."""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from msvl.config.errors import CheckpointError
from msvl.models.foreign_files import read_weights
from msvl.models.foreign_maps import unpack

VALUE = torch.zeros(1)


@pytest.mark.parametrize(
    "beside",
    [argparse.Namespace(lr=1), Path("x"), np.float64(1.0), defaultdict(list), nn.Linear(1, 1), {nn.Linear: 1}],
    ids=["Namespace", "Path", "numpy scalar", "defaultdict", "module", "class as a key"],
)
def test_files_that_could_run_code_are_refused(tmp_path: Path, beside: object) -> None:
    torch.save({"state_dict": {"a": VALUE}, "args": beside}, tmp_path / "unsafe.pth")
    with pytest.raises(CheckpointError, match="could run code when they are loaded: save its state dict alone"):
        read_weights(tmp_path / "unsafe.pth")


def test_plain_tensors_are_read(tmp_path: Path) -> None:
    torch.save(OrderedDict(a=VALUE), tmp_path / "plain.pth")
    assert unpack(read_weights(tmp_path / "plain.pth"), "") == {"a": VALUE}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*TorchScript archive:UserWarning")
def test_a_torchscript_program_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    # OpenAI publishes CLIP so.
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-32.pt"))
    with pytest.raises(CheckpointError, match=r"ViT-B-32.pt is a TorchScript program .*torch.jit.load\('ViT-B-32.pt'"):
        read_weights(tmp_path / "ViT-B-32.pt")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match="cut.pth cannot be read .*: copy it again"):
        read_weights(tmp_path / "cut.pth")


def test_containers_are_looked_through_in_the_order_of_the_published_repositories() -> None:
    other = torch.ones(1)
    for content in (
        {"a.x": VALUE},
        {"state_dict": {"module.a.x": VALUE}},
        {"model": {"state_dict": {"a.x": VALUE}}, "epoch": 3},
        {"model_state_dict": {"a.x": VALUE}},
        {"state_dict": {"a.x": VALUE}, "model": {"a.x": other}, "model_state_dict": {"a.x": other}},
        {"model": {"a.x": VALUE}, "model_state_dict": {"a.x": other}},
    ):
        assert unpack(content, "a.") == {"x": VALUE}
    with pytest.raises(CheckpointError, match="holds a list and no state dict"):
        unpack([1], "")


def test_a_prefix_is_what_names_begin_with_and_no_part_of_them() -> None:
    state = {"encoder.x": VALUE, "momentum_encoder.x": VALUE, "encoder.encoder.y": VALUE}
    assert set(unpack(state, "encoder.")) == {"x", "encoder.y"}
