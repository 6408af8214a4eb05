"""Adapter for the plain Vision Transformer of transformers (ViT, DeiT without distillation, MAE's encoder).

B batch, N patches, V visible patches, F channels. Token 0 is CLS, the patches follow row-major.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel
from transformers import initialization as init
from transformers.models.vit.modeling_vit import ViTLayer, ViTPatchEmbeddings, ViTPreTrainedModel

from msvl.config.errors import CheckpointError
from msvl.models.config import ImageConfig
from msvl.models.families.conv_stem import ConvStem
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.published import load_published_model, published_settings, refuse_missing
from msvl.models.positions import resize_positions, sine_cosine_positions

KEY = "model.image.weights"
MODEL_TYPES = ("vit", "vit_mae")
POSITION_STRENGTH = 0.1
"""Of the sine-cosine table in a random model; see `initialise`."""
PREFIX_TOKENS = 1
ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "initializer_range",
    "layer_norm_eps",
    "patch_size",
    "num_channels",
    "qkv_bias",
)


class ViTImageEncoder(ViTPreTrainedModel):
    """transformers' ViT with tokens that can be left out; parameter names are ViTModel's.

    With the stem 'patch' a plain `ViTModel` loads the weights; an encoder with the stem 'conv' needs msvl.
    """

    def __init__(self, settings: dict[str, Any], stem: str) -> None:
        """Build the encoder that `describe` describes, with random weights."""
        super().__init__(ViTConfig(**settings))
        self.set_attn_implementation("sdpa")
        self.width: int = self.config.hidden_size
        self.patch: int = settings["patch_size"]
        self.embeddings = MaskableEmbeddings(
            self.config, image_size=settings["image_size"], patch=self.patch, stem=stem
        )
        self.layers = nn.ModuleList(ViTLayer(self.config) for _ in range(self.config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(self.width, eps=self.config.layer_norm_eps)
        self.post_init()

    @classmethod
    def describe(cls, config: ImageConfig, image_size: int) -> dict[str, Any]:
        """Return the ViTConfig fields of a random model, or of the published one at this image size.

        Raises CheckpointError when the published patch does not divide the image.
        """
        if config.weights is None:
            return {
                "hidden_size": config.width,
                "num_hidden_layers": config.depth,
                "num_attention_heads": config.heads,
                "intermediate_size": config.mlp_width,
                "patch_size": config.patch,
                "image_size": image_size,
                # Three equal channels keep an export loadable as a plain ViTModel.
                "num_channels": 1 if config.stem == "conv" else 3,
                "layer_norm_eps": 1e-6,
                # 0.02 at 768 channels (ViT, BERT), kept in proportion to 1 / sqrt(width).
                "initializer_range": 0.02 * (768 / config.width) ** 0.5,
            }
        published = ViTConfig(**published_settings(config.weights, key=KEY, model_types=MODEL_TYPES))
        if not isinstance(published.patch_size, int) or image_size % published.patch_size:
            raise CheckpointError(
                f"{KEY} '{config.weights}' has patches of {published.patch_size} px, which do not divide "
                f"data.image_size {image_size}: choose a multiple"
            )
        return {name: getattr(published, name) for name in ARCHITECTURE} | {"image_size": image_size}

    def load_published(self, name: str) -> None:
        """Fill the encoder from a local folder or hub name; learned positions are moved to this image size."""
        source, missing = load_published_model(ViTModel, name, key=KEY, add_pooling_layer=False)
        refuse_missing(sorted(missing), name=name, key=KEY)
        state = source.state_dict()
        positions = "embeddings.position_embeddings"
        state[positions] = resize_positions(state[positions], grid=self.embeddings.grid, prefix=PREFIX_TOKENS)
        self.load_state_dict(state)

    def forward(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode standardised grey pixels.

        Args:
            pixels: [B, 1, H, W].
            visible: [B, V] patch numbers to encode; None encodes all. Nothing of the other patches is seen.
        """
        hidden = self.layernorm(self._last_states(pixels, visible))
        return EncodedImage(cls=hidden[:, 0], patches=hidden[:, PREFIX_TOKENS:])

    def _last_states(self, pixels: Tensor, visible: Tensor | None) -> Tensor:
        """Return the states before the last norm: [B, 1 + N, F], or [B, 1 + V, F]."""
        hidden = self.embeddings(pixels, visible)
        for layer in self.layers:
            hidden = layer(hidden, None)
        return hidden

    def pooled(self, hidden: Tensor, how: Literal["cls", "mean"]) -> Tensor:
        """Return the global feature [B, F] of states before the last norm [B, 1 + N, F]: CLS, or the mean of the patches."""
        tokens = self.layernorm(hidden)
        return tokens[:, 0] if how == "cls" else tokens[:, PREFIX_TOKENS:].mean(dim=1)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ConvStem):
            module.initialise()
        elif isinstance(module, MaskableEmbeddings):
            module.initialise(self.config.initializer_range)


class MaskableEmbeddings(nn.Module):
    """Pixels to tokens with positions, for all patches or for some."""

    def __init__(self, config: ViTConfig, *, image_size: int, patch: int, stem: str) -> None:
        """Build with either stem; `grid` is the number of patches per side."""
        super().__init__()
        self.grid = image_size // patch
        self.patch = patch
        self.num_channels: int = config.num_channels
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        conv = stem == "conv"
        self.overlapping = conv
        self.patch_embeddings = ConvStem(config.hidden_size, self.patch) if conv else ViTPatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(torch.zeros(1, PREFIX_TOKENS + self.grid**2, config.hidden_size))

    def forward(self, pixels: Tensor, visible: Tensor | None) -> Tensor:
        """Map [B, 1, H, W] to tokens [B, 1 + N, F], or [B, 1 + V, F]."""
        if visible is not None and self.overlapping:
            pixels = blank_hidden(pixels, visible, patch=self.patch)
        # Published stems read three channels: grey three times.
        patches = self.patch_embeddings(pixels.expand(-1, self.num_channels, -1, -1))
        patches = patches + self.position_embeddings[:, PREFIX_TOKENS:]
        if visible is not None:
            patches = take_tokens(patches, visible)
        cls = self.cls_token + self.position_embeddings[:, :PREFIX_TOKENS]
        return torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1)

    def initialise(self, std: float) -> None:
        """Start learned positions at a faint sine-cosine table (Beyer et al. 2022: better than noise).

        At full strength the positions, which all images share, drown what differs between images: pooled features of a
        random model then differ by 11 % of their length, with faint ones by 30 %, and contrastive learning starts
        several times sooner.
        """
        init.normal_(self.cls_token, std=std)
        table = POSITION_STRENGTH * sine_cosine_positions(self.grid, self.grid, self.position_embeddings.shape[-1])
        cls = torch.zeros(PREFIX_TOKENS, table.shape[1])
        init.copy_(self.position_embeddings, torch.cat([cls, table]).unsqueeze(0))


def take_tokens(tokens: Tensor, numbers: Tensor) -> Tensor:
    """Return tokens [B, N, F] at `numbers` [B, V] as [B, V, F]."""
    return tokens.gather(1, repeat(numbers, "b v -> b v f", f=tokens.shape[-1]))


def blank_hidden(pixels: Tensor, visible: Tensor, *, patch: int) -> Tensor:
    """Set the pixels [B, 1, H, W] of all patches but `visible` [B, V] to 0, the mean of standardised images."""
    batch, _, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    shown = pixels.new_zeros(batch, rows * columns).scatter(1, visible, 1.0)
    tiled = rearrange(pixels, "b 1 (r p) (c q) -> b r p c q", p=patch, q=patch)
    blanked = tiled * rearrange(shown, "b (r c) -> b r 1 c 1", r=rows)
    return rearrange(blanked, "b r p c q -> b 1 (r p) (c q)")
