"""An image encoder with its inner states, stochastic depth, other image sizes and learning rates per block.

B batch, N patches, F channels, L blocks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msvl.config.errors import CheckpointError
from msvl.models.families.vit import PREFIX_TOKENS, ViTImageEncoder
from msvl.models.msvl_model import MSVLModel
from msvl.models.positions import resize_positions


@dataclass(frozen=True)
class Pixels:
    """How the encoder wants its pixels: (grey / 255 - mean) / std."""

    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 [B, 1, H, W] to float."""
        return (images.float() / 255 - self.mean) / self.std


def tunable_encoder(model: MSVLModel) -> tuple[nn.Module, Pixels]:
    """Return a copy of the model's image encoder, of whatever kind, for images of its own size, and its pixel statistics."""
    encoder = copy.deepcopy(model.image_encoder)
    assert isinstance(encoder, nn.Module), type(encoder)
    return encoder, Pixels(model.config.pixel_mean, model.config.pixel_std)


def trainable_encoder(model: MSVLModel, size: int | None) -> tuple[ViTImageEncoder, Pixels]:
    """Return a copy of the model's image encoder for images of `size` pixels (None: its own), and its pixel statistics.

    Raises CheckpointError when it has no transformer blocks, or the size is no multiple of its patch.
    """
    source = model.image_encoder
    if not isinstance(source, ViTImageEncoder):
        raise CheckpointError(
            f"segmentation needs an image encoder of transformer blocks, found {type(source).__name__}: "
            "leave it out with --tasks"
        )
    encoder, side = source, size or model.config.image_size
    if side != model.config.image_size:
        encoder = _resized(source, dict(model.config.image_network or {}), model.config.image_section.stem, side)
    else:
        encoder = copy.deepcopy(source)
    return encoder, Pixels(model.config.pixel_mean, model.config.pixel_std)


def _resized(source: ViTImageEncoder, settings: dict[str, Any], stem: str, side: int) -> ViTImageEncoder:
    if side % source.patch:
        raise CheckpointError(
            f"segmentation at {side} px: the encoder has patches of {source.patch} px, choose a multiple"
        )
    encoder = ViTImageEncoder(settings | {"image_size": side}, stem)
    state = dict(source.state_dict())
    positions = "embeddings.position_embeddings"
    state[positions] = resize_positions(state[positions], grid=side // source.patch, prefix=PREFIX_TOKENS)
    encoder.load_state_dict(state)
    return nn.Module.to(encoder, next(source.parameters()).device)


def hidden_states(encoder: ViTImageEncoder, pixels: Tensor, *, drop_path: float) -> list[Tensor]:
    """Return the states after each block, before the last norm: L tensors [B, 1 + N, F].

    Args:
        encoder: In training mode, branches are skipped at random.
        pixels: [B, 1, H, W] standardised.
        drop_path: Chance that a branch of the last block is skipped for an image; grows linearly from 0 at the first.
    """
    hidden = encoder.embeddings(pixels, None)
    states = []
    last = max(1, len(encoder.layers) - 1)
    layers: list[Any] = list(encoder.layers)
    for number, layer in enumerate(layers):
        rate = drop_path * number / last if encoder.training else 0.0
        hidden = hidden + _kept(layer.attention(layer.layernorm_before(hidden), None)[0], rate)
        hidden = hidden + _kept(layer.mlp(layer.layernorm_after(hidden)), rate)
        states.append(hidden)
    return states


def _kept(branch: Tensor, rate: float) -> Tensor:
    """Set a branch to 0 for a random share of the images, and scale it up for the others (stochastic depth)."""
    if rate == 0:
        return branch
    kept = torch.rand(len(branch), 1, 1, device=branch.device) >= rate
    return branch * kept / (1 - rate)


def parameter_groups(
    encoder: nn.Module,
    head: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
    backbone_share: float,
) -> list[dict[str, Any]]:
    """Return optimizer groups: block i of L learns at lr * share * decay^(L + 1 - i), the head at lr.

    An encoder of another kind (ResNet, CLIP) has no blocks to tell apart: all of it learns at lr * share.
    Vectors (biases, norms), positions and the class token have no weight decay.
    """
    depth = len(encoder.layers) if isinstance(encoder, ViTImageEncoder) else 0
    rates = {level: lr * backbone_share * layer_decay ** (depth + 1 - level) for level in range(depth + 2)}
    named = [(f"encoder {level}", rates[level], name, value) for name, value in encoder.named_parameters()
             for level in (_level(name, depth),)]  # fmt: skip
    named += [("head", lr, name, value) for name, value in head.named_parameters()]
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for place, rate, name, value in named:
        if not value.requires_grad:
            continue
        decays = value.ndim > 1 and "position_embeddings" not in name and "cls_token" not in name
        fresh = {"params": [], "peak": rate, "lr": 0.0, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault((place, decays), fresh)["params"].append(value)
    return list(groups.values())


def _level(name: str, depth: int) -> int:
    """Return 0 for the embeddings, i + 1 for block i, L + 1 for the last norm."""
    if name.startswith("embeddings."):
        return 0
    if name.startswith("layers."):
        return int(name.split(".")[1]) + 1
    return depth + 1
