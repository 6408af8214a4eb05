"""Image encoders of other people's checkpoints, for probes, fine-tuning and segmentation.

B batch, N patches, F channels.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PretrainedConfig, ResNetConfig, ResNetModel

from msvl.config.base import Config
from msvl.config.errors import CheckpointError
from msvl.config.load import load_config
from msvl.models.config import ImageConfig
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.published import load_published_model, refuse_missing
from msvl.models.families.vit import ViTImageEncoder
from msvl.models.foreign_maps import MAPS, unpack
from msvl.models.heads import to_unit_length
from msvl.models.msvl_config import MSVLConfig
from msvl.models.outputs import ImageEmbeddings

KEY = "the foreign checkpoint"
RESNET50: dict[str, Any] = {
    "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "layer_type": "bottleneck",
    "downsample_in_bottleneck": False,
}  # fmt: skip


class ForeignCheckpoint(Config):
    """What a person knows of a checkpoint that msvl did not write: a YAML file."""

    format: Literal["huggingface", "timm_vit", "jeonsworld_vit", "torchvision_resnet", "sequential_resnet"]
    """How its weights are named; 'huggingface' is a local folder of ViT, ViT-MAE or ResNet."""
    path: str
    """File (.safetensors, or anything that torch.load reads safely) or folder."""
    prefix: str = ""
    """What stands before the encoder's names, such as `img_encoder_q.model.`."""
    image_size: PositiveInt = 224
    """Side of the square in pixels."""
    patch: PositiveInt = 16
    """Of a ViT."""
    heads: PositiveInt = 12
    """Attention heads of a ViT, which its weights do not tell."""
    pixel_mean: float = 0.4978
    """Mean grey value in [0, 1] that it was trained with (MRM, MaCo)."""
    pixel_std: PositiveFloat = 0.2449
    """Standard deviation (MRM, MaCo)."""
    pooling: Literal["cls", "mean"] = "cls"
    """Global feature of a ViT; a ResNet is averaged."""
    layer_norm_eps: float = Field(1e-6, gt=0)
    """Of a ViT (timm, MAE; transformers' own default is 1e-12)."""


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


class ImageOnlyModel(nn.Module):
    """The part of MSVLModel that needs no text, around a foreign encoder."""

    def __init__(self, encoder: ViTImageEncoder | ResNetImageEncoder, config: MSVLConfig, pooling: str) -> None:
        """Wrap an encoder."""
        super().__init__()
        self.image_encoder, self.config, self._pooling = encoder, config, pooling

    def standardise(self, images: Tensor) -> Tensor:
        """Map uint8 [B, 1, H, W] to what the encoder reads."""
        return (images.float() / 255 - self.config.pixel_mean) / self.config.pixel_std

    def encode_image(self, images: Tensor) -> ImageEmbeddings:
        """Embed uint8 [B, 1, H, W]; there is no shared space, so embeddings are the features at unit length."""
        encoded = self.image_encoder(self.standardise(images))
        features = encoded.cls if self._pooling == "cls" else encoded.patches.mean(dim=1)
        side = round(encoded.patches.shape[1] ** 0.5)
        return ImageEmbeddings(to_unit_length(features), encoded.patches, (side, side), features)


def load_foreign(path: Path) -> ImageOnlyModel:
    """Load what a YAML file describes, in evaluation mode, on the CPU.

    Raises:
        ConfigError: The file is wrong.
        CheckpointError: The weights are missing, unsafe, incomplete, or do not fit.
    """
    described = load_config(path, [], ForeignCheckpoint)
    if described.format == "huggingface":
        encoder, settings = _huggingface(described)
    else:
        state = MAPS[described.format](unpack(_read(Path(described.path)), described.prefix))
        build = _vit if described.format.endswith("_vit") else _resnet
        encoder, settings = build(described, state)
    config = MSVLConfig(
        image=ImageConfig().model_dump(mode="json"), image_network=settings, image_size=described.image_size,
        pixel_mean=described.pixel_mean, pixel_std=described.pixel_std, channels=encoder.width,
    )  # fmt: skip
    pooling = "cls" if isinstance(encoder, ResNetImageEncoder) else described.pooling
    return ImageOnlyModel(encoder, config, pooling).eval()


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (OSError, SafetensorError, EOFError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read ({' '.join(str(error).split())[:150]}): copy it again") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects besides tensors, which could run code when they are loaded: save its state dict "
            "alone where you trust it"
        ) from error


def _vit(described: ForeignCheckpoint, state: dict[str, Tensor]) -> tuple[ViTImageEncoder, dict[str, Any]]:
    _require(described, state, "embeddings.patch_embeddings.projection.weight", "layers.0.mlp.fc1.weight")
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
    _fill(encoder, state, described)
    return encoder, settings


def _resnet(described: ForeignCheckpoint, state: dict[str, Tensor]) -> tuple[ResNetImageEncoder, dict[str, Any]]:
    network = ResNetModel(ResNetConfig(**RESNET50))
    _fill(network, state, described)
    return ResNetImageEncoder(network), dict(RESNET50)


def _huggingface(described: ForeignCheckpoint) -> tuple[Any, dict[str, Any]]:
    settings, _ = PretrainedConfig.get_config_dict(described.path)
    kind = settings.get("model_type")
    if kind == "resnet":
        network, missing = load_published_model(ResNetModel, described.path, key=KEY)
        refuse_missing(sorted(missing), name=described.path, key=KEY)
        return ResNetImageEncoder(network), network.config.to_dict()
    if kind not in ("vit", "vit_mae"):
        raise CheckpointError(f"{described.path} holds a model of type '{kind}', expected vit, vit_mae or resnet")
    image = ImageConfig(weights=described.path)
    network_settings = ViTImageEncoder.describe(image, described.image_size)
    encoder = ViTImageEncoder(network_settings, "patch")
    encoder.load_published(described.path)
    return encoder, network_settings


def _fill(network: nn.Module, state: dict[str, Tensor], described: ForeignCheckpoint) -> None:
    """Load strictly, except for counters of batch norms that old files lack."""
    expected = network.state_dict()
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    state = counters | {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    _require(described, state, *expected)
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise CheckpointError(f"{described.path}: {name} has shape {list(state[name].shape)}, expected {list(value.shape)}")  # fmt: skip
    network.load_state_dict({name: state[name] for name in expected})


def _require(described: ForeignCheckpoint, state: dict[str, Tensor], *names: str) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(
            f"{described.path} lacks {len(missing)} weights of format {described.format}, the first is {missing[0]}: is "
            f"prefix '{described.prefix}' right?"
        )
