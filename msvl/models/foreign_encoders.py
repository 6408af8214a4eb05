"""Image encoders of other people's checkpoints: ViT of several namings, and ResNet.

B batch, N patches, F channels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from einops import rearrange
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel, ViTConfig

from msvl.config.errors import CheckpointError
from msvl.models.config import ImageConfig
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.published import load_published_model, published_settings, refuse_missing
from msvl.models.families.vit import PREFIX_TOKENS, ViTImageEncoder
from msvl.models.foreign_files import KEY, ForeignCheckpoint, check_image_size, fill, read_weights, require
from msvl.models.foreign_maps import MAPS, POOLED_NORM, unpack
from msvl.models.foreign_pixels import Planes, planes_of, read_grey

FOREIGN_KINDS = ("vit", "vit_mae", "resnet", "clip")
"""`model_type` of the transformers folders that can be judged."""
TORCHVISION_STAGES = 4


class PooledFirstViT(ViTImageEncoder):
    """A ViT whose last norm stands behind the mean over patches (timm's and MAE's `fc_norm`); patches have no norm."""

    def forward(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode [B, 1, H, W]; `cls` is the normalised mean of the patches."""
        hidden = self._last_states(pixels, visible)
        return EncodedImage(cls=self.pooled(hidden, "mean"), patches=hidden[:, PREFIX_TOKENS:])

    def pooled(self, hidden: Tensor, how: Literal["cls", "mean"]) -> Tensor:
        """See `ViTImageEncoder.pooled`; its class token was never learnt from, so there is one way."""
        return self.layernorm(hidden[:, PREFIX_TOKENS:].mean(dim=1))


class ResNetImageEncoder(nn.Module):
    """transformers' ResNet as an encoder of patches: the last stage's grid."""

    def __init__(self, network: ResNetModel, planes: Planes) -> None:
        """Wrap a network that reads grey images as `planes`."""
        super().__init__()
        self.network, self._planes = network, planes
        self.width: int = list(network.config.hidden_sizes or ())[-1]

    def forward(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode [B, 1, H, W]; `visible` has no meaning for convolutions. Raises CheckpointError when it is given."""
        if visible is not None:
            raise CheckpointError("a ResNet cannot leave out patches")
        plane = self.network(self._planes(pixels)).last_hidden_state
        patches = rearrange(plane, "b f r c -> b (r c) f")
        return EncodedImage(cls=patches.mean(dim=1), patches=patches)


def build_encoder(described: ForeignCheckpoint) -> tuple[ViTImageEncoder | ResNetImageEncoder, dict[str, Any]]:
    """Return the filled encoder and its network's settings. Raises CheckpointError."""
    if described.format == "huggingface":
        return _huggingface(described)
    state = MAPS[described.format](unpack(read_weights(Path(described.path)), described.prefix))
    return (_vit if described.format.endswith("_vit") else _resnet)(described, state)


def _vit(described: ForeignCheckpoint, state: dict[str, Tensor]) -> tuple[ViTImageEncoder, dict[str, Any]]:
    require(described, state, "embeddings.patch_embeddings.projection.weight", "layers.0.mlp.fc1.weight")
    projection, hidden = state["embeddings.patch_embeddings.projection.weight"], state["layers.0.mlp.fc1.weight"]
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    grid = round((state["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    settings = {
        "hidden_size": projection.shape[0], "num_hidden_layers": depth, "num_attention_heads": described.heads,
        "intermediate_size": hidden.shape[0], "patch_size": projection.shape[-1], "num_channels": projection.shape[1],
        "image_size": grid * projection.shape[-1], "layer_norm_eps": described.layer_norm_eps,
        "qkv_bias": "layers.0.attention.q_proj.bias" in state,
    }  # fmt: skip
    return _filled_vit(described, settings, state)


def _filled_vit(
    described: ForeignCheckpoint, settings: dict[str, Any], state: dict[str, Tensor]
) -> tuple[ViTImageEncoder, dict[str, Any]]:
    if settings["hidden_size"] % settings["num_attention_heads"]:
        raise CheckpointError(f"{described.path}: {settings['hidden_size']} channels are no multiple of heads {settings['num_attention_heads']}")  # fmt: skip
    check_image_size(described, settings["image_size"])
    pooled_first = POOLED_NORM in state
    encoder = (PooledFirstViT if pooled_first else ViTImageEncoder)(settings, "patch")
    last = {name.replace("pooled_norm.", "layernorm."): value for name, value in state.items()}
    fill(encoder, last, described)
    return read_grey(encoder, described), settings


def _resnet(described: ForeignCheckpoint, state: dict[str, Tensor]) -> tuple[ResNetImageEncoder, dict[str, Any]]:
    settings = _resnet_settings(described, state)
    network = ResNetModel(ResNetConfig(**settings))
    fill(network, state, described)
    return ResNetImageEncoder(network, planes_of(described, settings["num_channels"])), settings


def _resnet_settings(described: ForeignCheckpoint, state: dict[str, Tensor]) -> dict[str, Any]:
    """Read depth, widths and kind of block off the weights; a Sequential may end early (MedKLIP has no layer4)."""
    stem = "embedder.embedder.convolution.weight"
    require(described, state, stem, "encoder.stages.0.layers.0.layer.1.convolution.weight")
    blocks = [match for name in state if (match := re.match(r"encoder\.stages\.(\d)\.layers\.(\d+)\.", name))]
    stages = 1 + max(int(match[1]) for match in blocks)
    if described.format == "torchvision_resnet" and stages < TORCHVISION_STAGES:
        raise CheckpointError(f"{described.path} has layers 1 to {stages} of {TORCHVISION_STAGES}: is it whole?")
    bottleneck = "encoder.stages.0.layers.0.layer.2.convolution.weight" in state
    last = [f"encoder.stages.{stage}.layers.0.layer.{1 + bottleneck}.convolution.weight" for stage in range(stages)]
    require(described, state, *last)
    return {
        "num_channels": state[stem].shape[1], "embedding_size": state[stem].shape[0],
        "hidden_sizes": [state[name].shape[0] for name in last],
        "depths": [1 + max(int(match[2]) for match in blocks if int(match[1]) == stage) for stage in range(stages)],
        "layer_type": "bottleneck" if bottleneck else "basic", "downsample_in_bottleneck": False,
    }  # fmt: skip


def published_kind(described: ForeignCheckpoint) -> str | None:
    """Return the `model_type` of a transformers folder, None of other formats. Raises CheckpointError."""
    if described.format != "huggingface":
        return None
    if not Path(described.path).is_dir():
        raise CheckpointError(f"there is no folder {described.path}: name a local folder of transformers")
    return str(published_settings(described.path, key=KEY, model_types=FOREIGN_KINDS).get("model_type", "vit"))


def _huggingface(described: ForeignCheckpoint) -> tuple[ViTImageEncoder | ResNetImageEncoder, dict[str, Any]]:
    if published_kind(described) == "resnet":
        network, missing = load_published_model(ResNetModel, described.path, key=KEY)
        refuse_missing(sorted(missing), name=described.path, key=KEY)
        return ResNetImageEncoder(network, planes_of(described, network.config.num_channels)), network.config.to_dict()
    image = ImageConfig(weights=described.path)
    check_image_size(
        described, ViTConfig(**published_settings(described.path, key=KEY, model_types=FOREIGN_KINDS)).image_size
    )
    network_settings = ViTImageEncoder.describe(image, described.image_size)
    encoder = ViTImageEncoder(network_settings, "patch")
    encoder.load_published(described.path)
    return read_grey(encoder, described), network_settings
