"""The light image decoder of the masked autoencoder (He et al. 2022), and the pixels that it has to predict.

B batch, N patches, V visible, M masked patches, F encoder channels, D pixels per patch.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import ViTConfig
from transformers import initialization as init
from transformers.models.vit.modeling_vit import ViTLayer

from msvl.models.config import ImageDecoderConfig
from msvl.models.masking import PatchSplit
from msvl.models.positions import sine_cosine_positions


class ImageDecoder(nn.Module):
    """Transformer over visible tokens and mask tokens; predicts the grey pixels of the masked patches."""

    positions: Tensor

    def __init__(self, config: ImageDecoderConfig, *, encoder_width: int, grid: int, patch: int) -> None:
        """Build for `grid` x `grid` patches of `patch` x `patch` pixels."""
        super().__init__()
        self.embed = nn.Linear(encoder_width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        # Fixed as in MAE; kept with the weights, so that every loader restores it.
        self.register_buffer("positions", sine_cosine_positions(grid, grid, config.width))
        layer = ViTConfig(
            hidden_size=config.width,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            layer_norm_eps=1e-6,
        )
        layer._attn_implementation = "sdpa"
        self.layers = nn.ModuleList(ViTLayer(layer) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.pixels = nn.Linear(config.width, patch * patch)

    def forward(self, cls: Tensor, visible: Tensor, split: PatchSplit) -> Tensor:
        """Predict the masked patches.

        Attention does not care for the order of tokens, so CLS, visible and mask tokens are laid side by side with
        their positions instead of being sorted back into the grid.

        Args:
            cls: [B, F] of the masked pass.
            visible: [B, V, F] of the masked pass, in the order of `split.visible`.
            split: Which patches these are.

        Returns:
            [B, M, D] in the order of `split.masked`.
        """
        num_masked = split.masked.shape[1]
        seen = self.embed(torch.cat([rearrange(cls, "b f -> b 1 f"), visible], dim=1))
        positions = self.positions.to(seen.dtype)  # DeepSpeed casts parameters to bf16, not buffers
        seen = torch.cat([seen[:, :1], seen[:, 1:] + positions[split.visible]], dim=1)
        hidden = torch.cat([seen, self.mask_token + positions[split.masked]], dim=1)
        for layer in self.layers:
            hidden = layer(hidden, None)
        predicted: Tensor = self.pixels(self.norm(hidden[:, -num_masked:]))
        return predicted

    @torch.no_grad()
    def initialise(self) -> None:
        """Initialise as MAE does: Xavier for matrices, zero biases, a small mask token."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)
        init.normal_(self.mask_token, std=0.02)


def patch_targets(pixels: Tensor, masked: Tensor, *, patch: int, normalise: bool) -> Tensor:
    """Cut the masked patches out of standardised images.

    Args:
        pixels: [B, 1, H, W].
        masked: [B, M] row-major patch numbers.
        patch: Patch side.
        normalise: Standardise each patch by its own mean and (unbiased) variance + 1e-6, as MAE does.

    Returns:
        [B, M, D] float32 (float64 of float64), row-major inside a patch.
    """
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    patches = rearrange(pixels, "b 1 (r p) (c q) -> b (r c) (p q)", p=patch, q=patch)
    target = patches.gather(1, repeat(masked, "b m -> b m d", d=patch * patch))
    if not normalise:
        return target
    mean, variance = target.mean(dim=-1, keepdim=True), target.var(dim=-1, keepdim=True)
    return (target - mean) / (variance + 1e-6).sqrt()
