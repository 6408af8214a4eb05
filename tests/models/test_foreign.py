"""Other people's checkpoints: mapped to what transformers computes, refused when they do not fit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from msvl.config.errors import CheckpointError, ConfigError
from msvl.models.foreign import load_foreign
from msvl.models.foreign_maps import sequential_resnet, torchvision_resnet, unpack

WIDTH, HEADS, DEPTH, PATCH, SIDE = 24, 3, 2, 8, 32


class TimmAttention(nn.Module):
    """timm's: one matrix for query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query, key, value = self.qkv(x).reshape(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))


class TimmBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = TimmAttention()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 2 * WIDTH), "fc2": nn.Linear(2 * WIDTH, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class TimmViT(nn.Module):
    """The ViT of timm and MAE, written from its parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.blocks = nn.ModuleList(TimmBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def described(folder: Path, **values: Any) -> Path:
    tree = {"image_size": SIDE, "heads": HEADS, "pixel_mean": 0.4, "pixel_std": 0.2} | values
    (folder / "theirs.yaml").write_text(yaml.safe_dump(tree))
    return folder / "theirs.yaml"


def grey() -> Tensor:
    return torch.randint(0, 256, (2, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def three_channels(images: Tensor) -> Tensor:
    return ((images.float() / 255 - 0.4) / 0.2).expand(-1, 3, -1, -1)


@pytest.mark.evidence("Foreign ViT and ResNet state dicts compute what their own classes compute", how="cpu")
def test_a_timm_vit_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = TimmViT().eval()
    torch.save(
        {"state_dict": {f"module.encoder.{name}": value for name, value in theirs.state_dict().items()}},
        tmp_path / "vit.pth",
    )
    file = described(tmp_path, format="timm_vit", path=str(tmp_path / "vit.pth"), prefix="encoder.")
    ours = load_foreign(file)
    with torch.no_grad():
        expected = theirs(three_channels(grey()))
        found = ours.encode_image(grey())
    assert torch.allclose(found.features, expected[:, 0], atol=1e-5)
    assert torch.allclose(found.patches, expected[:, 1:], atol=1e-5)
    assert found.grid == (4, 4)


def test_a_jeonsworld_vit_computes_the_same(tmp_path: Path) -> None:
    plain = ViTModel(vit_config(), add_pooling_layer=False).eval()
    renames = (
        ("embeddings.patch_embeddings.projection.", "transformer.embeddings.patch_embeddings."),
        ("embeddings.", "transformer.embeddings."), ("layers.", "transformer.encoder.layer."),
        (".attention.q_proj.", ".attn.query."), (".attention.k_proj.", ".attn.key."), (".attention.v_proj.", ".attn.value."),
        (".attention.o_proj.", ".attn.out."), (".layernorm_before.", ".attention_norm."), (".layernorm_after.", ".ffn_norm."),
        (".mlp.", ".ffn."), ("layernorm.", "transformer.encoder.encoder_norm."),
    )  # fmt: skip
    state = {}
    for name, value in plain.state_dict().items():
        for new, old in renames:
            if name.startswith(new) or (new.startswith(".") and new in name):
                name = name.replace(new, old, 1)
                if new == "embeddings.patch_embeddings.projection.":
                    break
        state[name] = value
    state["head.weight"] = torch.zeros(5, WIDTH)
    save_file(state, tmp_path / "vit.safetensors")
    ours = load_foreign(
        described(tmp_path, format="jeonsworld_vit", path=str(tmp_path / "vit.safetensors"), pooling="mean")
    )
    with torch.no_grad():
        expected = plain(three_channels(grey())).last_hidden_state
        assert torch.allclose(ours.encode_image(grey()).features, expected[:, 1:].mean(dim=1), atol=1e-5)


def vit_config() -> ViTConfig:
    return ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=2 * WIDTH, image_size=SIDE,
        patch_size=PATCH, layer_norm_eps=1e-6,
    )  # fmt: skip


def test_a_huggingface_folder_computes_the_same(tmp_path: Path) -> None:
    plain = ViTModel(vit_config(), add_pooling_layer=False).eval()
    plain.save_pretrained(tmp_path / "vit")
    ours = load_foreign(described(tmp_path, format="huggingface", path=str(tmp_path / "vit")))
    with torch.no_grad():
        assert torch.allclose(
            ours.encode_image(grey()).features, plain(three_channels(grey())).last_hidden_state[:, 0], atol=1e-5
        )


class Bottleneck(nn.Module):
    """torchvision's."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * middle
        self.conv1, self.bn1 = nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False), nn.BatchNorm2d(middle)
        self.conv3, self.bn3 = nn.Conv2d(middle, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        short = self.downsample(x) if hasattr(self, "downsample") else x
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + short)


class ResNet50(nn.Module):
    """torchvision's resnet50, written from its parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for stage, (blocks, middle) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
            layers = []
            for number in range(blocks):
                layers.append(Bottleneck(inputs, middle, 2 if number == 0 and stage > 1 else 1))
                inputs = 4 * middle
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(2048, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def test_a_torchvision_resnet_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = ResNet50().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    ours = load_foreign(
        described(tmp_path, format="torchvision_resnet", path=str(tmp_path / "resnet.pth"), image_size=64)
    )
    images = grey().repeat(1, 1, 2, 2)
    with torch.no_grad():
        expected = theirs(three_channels(images))
        found = ours.encode_image(images)
    assert torch.allclose(found.features, expected.mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)
    assert found.grid == (2, 2)


def test_a_sequential_resnet_is_the_same_under_numbers() -> None:
    names = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    plain = {name: value for name, value in ResNet50().state_dict().items() if not name.startswith("fc")}
    numbered = {f"{names[name.split('.')[0]]}.{name.partition('.')[2]}": value for name, value in plain.items()}
    one, other = sequential_resnet(numbered), torchvision_resnet(plain)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    expected = ResNetModel(
        ResNetConfig(embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3])
    ).state_dict()
    assert set(one) == set(expected)


def test_faults_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = TimmViT().state_dict()
    torch.save(state, tmp_path / "vit.pth")
    path = str(tmp_path / "vit.pth")
    with pytest.raises(
        CheckpointError, match="no weight begins with prefix 'visual.'; the file has blocks., cls_token."
    ):
        load_foreign(described(tmp_path, format="timm_vit", path=path, prefix="visual."))
    with pytest.raises(CheckpointError, match=r"lacks 2 weights of format jeonsworld_vit"):
        load_foreign(described(tmp_path, format="jeonsworld_vit", path=path))
    with pytest.raises(CheckpointError, match="its positions are for images of 32 px: set image_size to that"):
        load_foreign(described(tmp_path, format="timm_vit", path=path, image_size=64))
    with pytest.raises(CheckpointError, match="24 channels are no multiple of heads 5"):
        load_foreign(described(tmp_path, format="timm_vit", path=path, heads=5))
    del state["blocks.1.norm2.bias"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="lacks 1 weights .* layers.1.layernorm_after.bias"):
        load_foreign(described(tmp_path, format="timm_vit", path=path))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "nowhere.pth")))
    with pytest.raises(ConfigError, match="format"):
        load_foreign(described(tmp_path, format="tensorflow", path=path))


def test_files_that_could_run_code_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": TimmViT().state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "unsafe.pth")
    with pytest.raises(CheckpointError, match="could run code when they are loaded: save its state dict alone"):
        load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "unsafe.pth")))


def test_containers_are_looked_through() -> None:
    value = torch.zeros(1)
    for content in (
        {"a.x": value},
        {"state_dict": {"module.a.x": value}},
        {"model": {"state_dict": {"a.x": value}}, "epoch": 3},
    ):
        assert list(unpack(content, "a.")) == ["x"]
    with pytest.raises(CheckpointError, match="holds a list and no state dict"):
        unpack([1], "")
