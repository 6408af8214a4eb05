"""Other people's ResNets, of any depth, under torchvision's names and under numbers (A.1, A.1b)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from msvl.config.errors import CheckpointError
from msvl.models.foreign import load_foreign
from msvl.models.foreign_maps import sequential_resnet, torchvision_resnet
from tests.models.their_networks import ResNet, described, grey, numbered, standardised


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"depths": (3, 4, 23, 3), "first": 8},
        {"depths": (2, 2, 2, 2), "bottleneck": False, "first": 16},
        {"depths": (3, 4, 6, 3), "bottleneck": False, "first": 8},
        {"depths": (1, 1, 1, 1), "channels": 1, "first": 8},
    ],
    ids=["resnet50", "as resnet101", "as resnet18", "as resnet34", "one channel"],
)
def test_a_torchvision_resnet_computes_the_same(tmp_path: Path, shape: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = ResNet(**shape).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    ours = load_foreign(described(tmp_path, format="torchvision_resnet", path=str(tmp_path / "resnet.pth"), image_size=64))  # fmt: skip
    with torch.no_grad():
        expected = theirs(standardised(grey(64), channels=shape.get("channels", 3)))
        found = ours.encode_image(grey(64))
    assert torch.allclose(found.features, expected.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)
    assert torch.allclose(found.patches, expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)
    assert found.grid == (2, 2)


def test_a_sequential_resnet_is_the_same_under_numbers() -> None:
    plain = {name: value for name, value in ResNet().state_dict().items() if not name.startswith("fc.")}
    one, other = sequential_resnet(numbered(plain)), torchvision_resnet(plain)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    expected = ResNetModel(ResNetConfig(embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3]))
    assert set(one) == set(expected.state_dict())


def test_a_sequential_resnet_may_end_early(tmp_path: Path) -> None:
    # MedKLIP's file has no layer4: filling one with random weights, as BenchX does, would be another encoder.
    torch.manual_seed(0)
    theirs = ResNet((1, 2, 1), first=8).eval()
    state = {f"module.res_features.{name}": value for name, value in numbered(theirs.state_dict()).items()}
    torch.save({"model": state | {"module.res_l1.weight": torch.ones(2, 2)}, "epoch": 3}, tmp_path / "medklip.pth")
    file = described(tmp_path, format="sequential_resnet", path=str(tmp_path / "medklip.pth"), prefix="res_features.", image_size=64)  # fmt: skip
    ours = load_foreign(file)
    with torch.no_grad():
        expected = theirs(standardised(grey(64)))
        found = ours.encode_image(grey(64))
    assert torch.allclose(found.features, expected.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)
    assert found.grid == (4, 4)


def test_counters_of_old_files_may_be_missing(tmp_path: Path) -> None:
    theirs = ResNet((1, 1, 1, 1), first=8)
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    torch.save(state, tmp_path / "resnet.pth")
    ours = load_foreign(described(tmp_path, format="torchvision_resnet", path=str(tmp_path / "resnet.pth")))
    assert torch.equal(ours.image_encoder.network.encoder.stages[0].layers[0].layer[0].convolution.weight, state["layer1.0.conv1.weight"])  # type: ignore[union-attr, index]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layer4": None}, "has layers 1 to 3 of 4: is it whole"),
        ({"layer2.0.bn1.bias": None}, r"lacks 1 weights of format torchvision_resnet, the first is .*stages.1.*bias"),
        ({"layer1.0.se.fc1.weight": torch.ones(2)}, r"no place in the network of this format, the first is layer1.0.se.fc1"),
        ({"layer1.0.conv2.weight": torch.ones(8, 4, 3, 3)}, r"has shape \[8, 4, 3, 3\], expected \[8, 8, 3, 3\]"),
    ],
)  # fmt: skip
def test_other_networks_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    state = dict(ResNet((1, 1, 1, 1), first=8).state_dict())
    for name, value in changed.items():
        for own in [own for own in state if own.startswith(name)] if value is None else []:
            del state[own]
        if value is not None:
            state[name] = value
    torch.save(state, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=message):
        load_foreign(described(tmp_path, format="torchvision_resnet", path=str(tmp_path / "resnet.pth")))
