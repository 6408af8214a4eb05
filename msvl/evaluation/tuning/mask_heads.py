"""Heads that turn a ViT's inner states into masks: UPerNet (Xiao et al. 2018) as MaCo uses it, and a linear one.

B batch, N patches (rows x columns), F encoder channels, D head channels, K masks.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

POOLS = (1, 2, 3, 6)
"""Bins of the pyramid pooling (UPerNet)."""


class MaskHead(Protocol):
    """States of four blocks to logits."""

    def __call__(self, states: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Map four [B, F, rows, columns] to logits [B, K, h, w] and those of the auxiliary head, where there is one."""


def four_blocks(depth: int) -> tuple[int, int, int, int]:
    """Return the blocks that the pyramid reads: 3, 5, 7, 11 of twelve (MaCo), evenly spaced ones of other depths."""
    if depth == 12:
        return 3, 5, 7, 11
    first, second, third, last = (max(0, round((part + 1) * depth / 4) - 1) for part in range(4))
    return first, second, third, last


def as_planes(states: list[Tensor], blocks: tuple[int, ...], prefix: int) -> list[Tensor]:
    """Return the patches [B, 1 + N, F] of some blocks as square planes [B, F, rows, columns]."""
    side = round((states[0].shape[1] - prefix) ** 0.5)
    return [rearrange(states[block][:, prefix:], "b (r c) f -> b f r c", r=side) for block in blocks]


class LinearHead(nn.Module):
    """One linear layer on the last block's patches."""

    def __init__(self, width: int, num_masks: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classify = nn.Conv2d(width, num_masks, 1)

    def forward(self, states: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """See `MaskHead`."""
        return self.classify(self.norm(states[-1])), None


class PyramidHead(nn.Module):
    """UPerNet: four blocks at 4, 2, 1 and 1/2 times the patch grid, pooled at the top, added downwards, fused."""

    def __init__(self, width: int, num_masks: int, channels: int) -> None:
        """Build with random weights; `channels` is D (MaCo: 768 with an encoder of 768)."""
        super().__init__()
        self.rescale = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, width, 2, 2), nn.BatchNorm2d(width), nn.GELU(),
                    nn.ConvTranspose2d(width, width, 2, 2),
                ),
                nn.ConvTranspose2d(width, width, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2, ceil_mode=True),
            ]
        )  # fmt: skip
        self.pooled = nn.ModuleList(_block(width, channels, 1) for _ in POOLS)
        self.top = _block(width + len(POOLS) * channels, channels, 3)
        self.lateral = nn.ModuleList(_block(width, channels, 1) for _ in range(3))
        self.smooth = nn.ModuleList(_block(channels, channels, 3) for _ in range(3))
        self.fuse = _block(4 * channels, channels, 3)
        self.classify = nn.Conv2d(channels, num_masks, 1)
        self.auxiliary = nn.Sequential(_block(width, channels, 3), nn.Conv2d(channels, num_masks, 1))

    def forward(self, states: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """See `MaskHead`."""
        levels = [scale(state) for scale, state in zip(self.rescale, states, strict=True)]
        planes = [lateral(level) for lateral, level in zip(self.lateral, levels[:3], strict=True)]
        planes.append(self._pool(levels[3]))
        for place in (2, 1, 0):
            planes[place] = planes[place] + _like(planes[place + 1], planes[place])
        smooth = [layer(plane) for layer, plane in zip(self.smooth, planes[:3], strict=True)] + [planes[3]]
        fused = self.fuse(torch.cat([_like(plane, smooth[0]) for plane in smooth], dim=1))
        return self.classify(fused), self.auxiliary(levels[2])

    def _pool(self, plane: Tensor) -> Tensor:
        parts = [_like(layer(functional.adaptive_avg_pool2d(plane, bins)), plane)
                 for layer, bins in zip(self.pooled, POOLS, strict=True)]  # fmt: skip
        top: Tensor = self.top(torch.cat([plane, *parts], dim=1))
        return top


def start_at(head: LinearHead | PyramidHead, prior: float) -> None:
    """Let a fresh head, its auxiliary too, give every pixel about the probability `prior`: most pixels belong to no mask."""
    layers = [head.classify, *([head.auxiliary[-1]] if isinstance(head, PyramidHead) else ())]
    for layer in layers:
        nn.init.constant_(layer.bias, math.log(prior / (1 - prior)))


def _block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # A pooled plane of one pixel and a batch of one leave nothing to normalise over batches: groups of channels instead.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.GroupNorm(1, outputs), nn.ReLU()
    )


def _like(plane: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(plane, size=other.shape[-2:], mode="bilinear", align_corners=False)
