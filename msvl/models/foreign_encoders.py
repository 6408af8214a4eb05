"""Image encoders of other people's checkpoints: ViT of several namings, and ResNet.

B batch, N patches, F channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor, nn
from transformers import PretrainedConfig, ResNetConfig, ResNetModel

from msvl.config.errors import CheckpointError
from msvl.models.config import ImageConfig
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.published import load_published_model, refuse_missing
from msvl.models.families.vit import ViTImageEncoder
from msvl.models.foreign_files import KEY, ForeignCheckpoint, fill, read_weights, require
from msvl.models.foreign_maps import MAPS, unpack

RESNET50: dict[str, Any] = {
    "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "layer_type": "bottleneck",
    "downsample_in_bottleneck": False,
}  # fmt: skip


class ResNetImageEncoder(nn.Module):
    """transformers' ResNet as an encoder of patches: the last stage's grid."""

    def __init__(self, network: ResNetModel) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network
        self.width: int = list(network.config.hidden_sizes or ())[-1]
        self.patch = 32

    def forward(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode [B, 1, H, W]; `visible` has no meaning for convolutions. Raises CheckpointError when it is given."""
        if visible is not None:
            raise CheckpointError("a ResNet cannot leave out patches")
        plane = self.network(pixels.expand(-1, 3, -1, -1)).last_hidden_state
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
    }  # fmt: skip
    return _filled_vit(described, settings, state)


def _filled_vit(
    described: ForeignCheckpoint, settings: dict[str, Any], state: dict[str, Tensor]
) -> tuple[ViTImageEncoder, dict[str, Any]]:
    if settings["hidden_size"] % settings["num_attention_heads"]:
        raise CheckpointError(f"{described.path}: {settings['hidden_size']} channels are no multiple of heads {settings['num_attention_heads']}")  # fmt: skip
    if settings["image_size"] != described.image_size:
        raise CheckpointError(
            f"{described.path}: its positions are for images of {settings['image_size']} px: set image_size to that"
        )
    encoder = ViTImageEncoder(settings, "patch")
    fill(encoder, state, described)
    return encoder, settings


def _resnet(described: ForeignCheckpoint, state: dict[str, Tensor]) -> tuple[ResNetImageEncoder, dict[str, Any]]:
    network = ResNetModel(ResNetConfig(**RESNET50))
    fill(network, state, described)
    return ResNetImageEncoder(network), dict(RESNET50)


def _huggingface(described: ForeignCheckpoint) -> tuple[ViTImageEncoder | ResNetImageEncoder, dict[str, Any]]:
    settings, _ = PretrainedConfig.get_config_dict(described.path)
    kind = settings.get("model_type")
    if kind == "resnet":
        network, missing = load_published_model(ResNetModel, described.path, key=KEY)
        refuse_missing(sorted(missing), name=described.path, key=KEY)
        return ResNetImageEncoder(network), network.config.to_dict()
    if kind not in ("vit", "vit_mae"):
        raise CheckpointError(f"{described.path} holds a model of type '{kind}', expected vit, vit_mae, resnet or clip")
    image = ImageConfig(weights=described.path)
    network_settings = ViTImageEncoder.describe(image, described.image_size)
    encoder = ViTImageEncoder(network_settings, "patch")
    encoder.load_published(described.path)
    return encoder, network_settings
