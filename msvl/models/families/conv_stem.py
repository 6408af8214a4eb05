"""A convolutional stem in place of the plain patch projection: learns several times faster on little data."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import initialization as init

GROUPS = 8


class ConvStem(nn.Module):
    """Overlapping 3x3 stride-2 convolutions with GroupNorm(8) and GELU, then a 1x1 projection (Xiao et al. 2021).

    GroupNorm depends on the sample alone, so results do not depend on how a batch is spread over ranks. Kernels overlap
    patch borders: hidden patches must be blanked in the pixels before the stem.
    """

    def __init__(self, width: int, patch: int) -> None:
        """Build log2(patch) halvings whose channels double up to `width`, a multiple of 4 * patch."""
        super().__init__()
        halvings = patch.bit_length() - 1
        channels = [1, *(width >> (halvings - 1 - step) for step in range(halvings))]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                # The norm that follows takes any bias away.
                nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False),
                nn.GroupNorm(GROUPS, after),
                nn.GELU(),
            )
            for before, after in zip(channels, channels[1:], strict=False)
        )
        # A last GELU would give all tokens of all images a common part, which drowns what differs between them.
        self.blocks[-1] = self.blocks[-1][:-1]  # type: ignore[index]
        self.projection = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map [B, 1, H, W] to [B, N, width], row-major."""
        hidden = pixels
        for block in self.blocks:
            hidden = block(hidden)
        tokens: Tensor = rearrange(self.projection(hidden), "b f rows columns -> b (rows columns) f")
        return tokens

    @torch.no_grad()
    def initialise(self) -> None:
        """Keep the variance through the layers (He et al. 2015); the projection gives tokens of about unit size."""
        for block in self.blocks:
            for convolution in block.modules():
                if isinstance(convolution, nn.Conv2d):
                    init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        init.normal_(self.projection.weight, std=self.projection.in_channels**-0.5)
        if self.projection.bias is not None:
            init.zeros_(self.projection.bias)
