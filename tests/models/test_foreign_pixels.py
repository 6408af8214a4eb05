"""Grey images as the channels of other people's encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from msvl.config.errors import ConfigError
from msvl.models.foreign import load_foreign
from tests.models.test_foreign_text import clip, openai_names
from tests.models.their_networks import SIDE, ResNet, TimmViT, described, grey

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""ImageNet's."""
OWN = {"pixel_mean": MEAN, "pixel_std": STD}


def channels(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


@pytest.mark.parametrize("kind", ["timm_vit", "torchvision_resnet", "openai_clip"])
def test_every_channel_has_its_own_mean_and_deviation(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    theirs: Any = {"timm_vit": TimmViT, "torchvision_resnet": lambda: ResNet((1, 1, 1, 1), first=8), "openai_clip": clip}[kind]().eval()  # fmt: skip
    save_file(openai_names(theirs) if kind == "openai_clip" else theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = load_foreign(described(tmp_path, format=kind, path=str(tmp_path / "theirs.safetensors"), **OWN))
    with torch.no_grad():
        found = ours.encode_image(grey()).features
        if kind == "timm_vit":
            expected = theirs(channels(grey()))[:, 0]
        elif kind == "openai_clip":
            expected = theirs.vision_model(pixel_values=channels(grey())).pooler_output
        else:
            expected = theirs(channels(grey())).mean(dim=(2, 3))
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_one_of_both_may_be_the_same_for_all_channels(tmp_path: Path) -> None:
    torch.save(TimmViT().state_dict(), tmp_path / "vit.pth")
    here = {"format": "timm_vit", "path": str(tmp_path / "vit.pth")}
    one = load_foreign(described(tmp_path, **here, pixel_mean=MEAN, pixel_std=0.2))
    other = load_foreign(described(tmp_path, **here, pixel_mean=MEAN, pixel_std=[0.2] * 3))
    with torch.no_grad():
        assert torch.allclose(one.encode_image(grey()).features, other.encode_image(grey()).features, atol=1e-6)


def test_an_encoder_of_one_channel_takes_one_mean(tmp_path: Path) -> None:
    torch.save(ResNet((1, 1, 1, 1), first=8, channels=1).state_dict(), tmp_path / "resnet.pth")
    file = described(tmp_path, format="torchvision_resnet", path=str(tmp_path / "resnet.pth"), image_size=SIDE, **OWN)
    with pytest.raises(ConfigError, match="pixel_mean and pixel_std have 3 values, and the encoder has 1 channels: give one"):  # fmt: skip
        load_foreign(file)
