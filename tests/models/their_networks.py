"""Networks of other people, written from their parameter names, and the YAML file that describes their checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, DEPTH, PATCH, SIDE = 24, 3, 2, 8, 32


class TimmAttention(nn.Module):
    """timm's: one matrix for query, key and value."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query, key, value = self.qkv(x).reshape(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))


class TimmBlock(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = TimmAttention(bias=bias)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 2 * WIDTH), "fc2": nn.Linear(2 * WIDTH, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class TimmViT(nn.Module):
    """The ViT of timm and MAE; with `fc_norm` its last norm stands behind the mean over patches."""

    def __init__(self, *, fc_norm: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.blocks = nn.ModuleList(TimmBlock(bias=bias) for _ in range(DEPTH))
        last = nn.LayerNorm(WIDTH, eps=1e-6)
        self.norm, self.fc_norm = (nn.Identity(), last) if fc_norm else (last, nn.Identity())
        nn.init.normal_(last.weight)
        nn.init.normal_(last.bias)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return all tokens [B, 1 + N, F]."""
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Block(nn.Module):
    """torchvision's: two convolutions of 3 x 3, or a bottleneck."""

    def __init__(self, inputs: int, middle: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * middle if bottleneck else middle
        shapes = [(inputs, middle, 3, stride), (middle, middle, 3, 1)]
        if bottleneck:
            shapes = [(inputs, middle, 1, 1), (middle, middle, 3, stride), (middle, outputs, 1, 1)]
        for number, (before, after, side, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{number}", nn.Conv2d(before, after, side, step, side // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
        self.count = len(shapes)
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        short = self.downsample(x) if hasattr(self, "downsample") else x
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = functional.relu(x + short if number == self.count else x)
        return x


class ResNet(nn.Module):
    """torchvision's: (3, 4, 6, 3) bottlenecks are resnet50, (2, 2, 2, 2) plain blocks resnet18."""

    def __init__(
        self, depths: Sequence[int] = (3, 4, 6, 3), *, bottleneck: bool = True, channels: int = 3, first: int = 64
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first)
        inputs = first
        self.stages = len(depths)
        for stage, blocks in enumerate(depths, start=1):
            middle, layers = first * 2 ** (stage - 1), []
            for number in range(blocks):
                layers.append(Block(inputs, middle, 2 if number == 0 and stage > 1 else 1, bottleneck=bottleneck))
                inputs = 4 * middle if bottleneck else middle
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, 3)
        for name, buffer in self.named_buffers():  # statistics of a trained network are not 0 and 1
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the plane of the last stage [B, F, h, w]."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x


NUMBERS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name a ResNet's weights as `nn.Sequential(*children)` does."""
    parts = {name: name.partition(".") for name in state if not name.startswith("fc.")}
    return {f"{NUMBERS[first]}.{rest}": state[name] for name, (first, _, rest) in parts.items()}


def described(folder: Path, **values: Any) -> Path:
    """Write the YAML file of a checkpoint."""
    tree = {"image_size": SIDE, "heads": HEADS, "pixel_mean": 0.4, "pixel_std": 0.2} | values
    (folder / "theirs.yaml").write_text(yaml.safe_dump(tree))
    return folder / "theirs.yaml"


def grey(side: int = SIDE) -> Tensor:
    """Two random images."""
    return torch.randint(0, 256, (2, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def standardised(images: Tensor, *, channels: int = 3) -> Tensor:
    """Return what the networks read, by the mean and deviation of `described`."""
    return ((images.float() / 255 - 0.4) / 0.2).expand(-1, channels, -1, -1)
