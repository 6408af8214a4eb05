"""Other people's checkpoints: image encoders for probes, fine-tuning and segmentation, with a text tower for zero-shot tasks too.

B batch, N patches, F channels.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PretrainedConfig,
    ResNetConfig,
    ResNetModel,
)

from msvl.config.base import Config
from msvl.config.errors import CheckpointError
from msvl.config.load import load_config
from msvl.data.batch import Tokens
from msvl.models.config import ImageConfig
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.published import load_published_model, refuse_missing
from msvl.models.families.vit import ViTImageEncoder
from msvl.models.foreign_maps import MAPS, openai_clip, unpack
from msvl.models.foreign_text import (
    BertTower,
    ClipTower,
    ForeignText,
    PlainTokeniser,
    Projections,
    build_projection,
    check_width,
    embedded_text,
    out_width,
)
from msvl.models.heads import to_unit_length
from msvl.models.msvl_config import MSVLConfig
from msvl.models.outputs import ImageEmbeddings, TextEmbeddings

KEY = "the foreign checkpoint"
RESNET50: dict[str, Any] = {
    "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "layer_type": "bottleneck",
    "downsample_in_bottleneck": False,
}  # fmt: skip


class ForeignCheckpoint(Config):
    """What a person knows of a checkpoint that msvl did not write: a YAML file."""

    format: Literal[
        "huggingface", "timm_vit", "jeonsworld_vit", "torchvision_resnet", "sequential_resnet", "openai_clip"
    ]
    """How its weights are named; 'huggingface' is a local folder of ViT, ViT-MAE, ResNet or CLIP."""
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
    text: ForeignText | None = None
    """Its text side; null judges the image encoder alone. A CLIP needs its tokenizer here and nothing else."""

    @model_validator(mode="after")
    def _check(self) -> ForeignCheckpoint:
        if (
            self.format == "openai_clip"
            and self.text is not None
            and (self.text.projection or self.text.image_projection)
        ):
            raise ValueError(
                "openai_clip has its projections at known names: leave text.projection and image_projection out"
            )
        return self


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


class ClipImageEncoder(nn.Module):
    """CLIP's image transformer: the class token after the last norm, patches before it."""

    def __init__(self, network: CLIPVisionModelWithProjection) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network
        self.width: int = network.config.hidden_size
        self.patch = network.vision_model.embeddings.patch_embedding.weight.shape[-1]

    def forward(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode [B, 1, H, W]; `visible` is not offered. Raises CheckpointError when it is given."""
        if visible is not None:
            raise CheckpointError("a foreign CLIP cannot leave out patches")
        found = self.network.vision_model(pixel_values=pixels.expand(-1, 3, -1, -1))
        return EncodedImage(cls=found.pooler_output, patches=found.last_hidden_state[:, 1:])


ForeignEncoder = ViTImageEncoder | ResNetImageEncoder | ClipImageEncoder


class ForeignModel(nn.Module):
    """What judgement asks of MSVLModel, around a foreign encoder and, where it has one, its text tower."""

    def __init__(
        self, encoder: ForeignEncoder, config: MSVLConfig, pooling: str,
        tower: BertTower | ClipTower | None = None, projections: Projections | None = None,
    ) -> None:  # fmt: skip
        """Wrap an encoder; tower and projections come together."""
        super().__init__()
        self.image_encoder, self.config, self._pooling = encoder, config, pooling
        self.tower, self.projections = tower, projections

    @property
    def reads_text(self) -> bool:
        """Return whether images and texts meet in one space."""
        return self.tower is not None

    @property
    def places_text(self) -> bool:
        """Return whether patches and texts do."""
        return self.projections is not None and self.projections.has_patches

    def standardise(self, images: Tensor) -> Tensor:
        """Map uint8 [B, 1, H, W] to what the encoder reads."""
        return (images.float() / 255 - self.config.pixel_mean) / self.config.pixel_std

    def encode_image(self, images: Tensor) -> ImageEmbeddings:
        """Embed uint8 [B, 1, H, W]; without a shared space embeddings are the features at unit length."""
        encoded = self.image_encoder(self.standardise(images))
        features = encoded.cls if self._pooling == "cls" else encoded.patches.mean(dim=1)
        side = round(encoded.patches.shape[1] ** 0.5)
        image, patches = features, encoded.patches
        if self.projections is not None:
            image, patches = self.projections(features, encoded.patches)
        return ImageEmbeddings(to_unit_length(image), patches, (side, side), features)

    def encode_text(self, tokens: Tokens) -> TextEmbeddings:
        """Embed texts of `foreign_tokeniser`. Raises CheckpointError without a text tower."""
        if self.tower is None:
            raise CheckpointError("this checkpoint is an image encoder alone: describe its text side under `text`")
        return embedded_text(self.tower, tokens)


def load_foreign(path: Path) -> ForeignModel:
    """Load what a YAML file describes, in evaluation mode, on the CPU.

    Raises:
        ConfigError: The file is wrong.
        CheckpointError: The weights are missing, unsafe, incomplete, or do not fit.
    """
    described = load_config(path, [], ForeignCheckpoint)
    kind = "clip" if described.format == "openai_clip" or _published_kind(described) == "clip" else "encoder"
    if kind == "clip":
        return _clip(described)
    if described.format == "huggingface":
        encoder, settings = _huggingface(described)
    else:
        state = MAPS[described.format](unpack(_read(Path(described.path)), described.prefix))
        build = _vit if described.format.endswith("_vit") else _resnet
        encoder, settings = build(described, state)
    tower, projections = _text_side(described, encoder.width)
    config = _config(described, settings, encoder.width)
    pooling = "cls" if isinstance(encoder, ResNetImageEncoder) else described.pooling
    return ForeignModel(encoder, config, pooling, tower, projections).eval()


def foreign_tokeniser(path: Path) -> PlainTokeniser | None:
    """Return the tokenizer of what a YAML file describes; None where it has no text side. Raises CheckpointError."""
    described = load_config(path, [], ForeignCheckpoint)
    return None if described.text is None else PlainTokeniser(described.text.tokenizer, described.text.max_tokens)


def _config(described: ForeignCheckpoint, settings: dict[str, Any], width: int) -> MSVLConfig:
    return MSVLConfig(
        image=ImageConfig().model_dump(mode="json"), image_network=settings, image_size=described.image_size,
        pixel_mean=described.pixel_mean, pixel_std=described.pixel_std, channels=width,
    )  # fmt: skip


def _text_side(described: ForeignCheckpoint, width: int) -> tuple[BertTower | None, Projections | None]:
    if described.text is None:
        return None, None
    text, everything = described.text, ""
    own = described.text.path or described.path
    if not Path(own).is_file():
        raise CheckpointError(f"text.path: there is no file {own}; of a folder, name the file of weights in it")
    state = unpack(_read(Path(own)), everything)
    images = state if own == described.path or described.format == "huggingface" else unpack(_read(Path(described.path)), everything)  # fmt: skip
    tower = BertTower(text, unpack(state, text.prefix), build_projection(text.projection, state, "text.projection"))
    check_width(tower.projection, tower.bert.config.hidden_size, "text.projection")
    projections = Projections(text, images, width)
    sizes = {out_width(tower.projection, tower.bert.config.hidden_size), projections.width}
    if len(sizes) > 1:
        raise CheckpointError(
            f"text and images do not meet: their projections end at {' and '.join(map(str, sorted(sizes)))} channels"
        )
    return tower, projections


def _published_kind(described: ForeignCheckpoint) -> str | None:
    if described.format != "huggingface":
        return None
    return str(PretrainedConfig.get_config_dict(described.path)[0].get("model_type"))


def _clip(described: ForeignCheckpoint) -> ForeignModel:
    if described.format == "huggingface":
        whole, missing = load_published_model(CLIPModel, described.path, key=KEY)
        refuse_missing(sorted(missing), name=described.path, key=KEY)
        state, heads, act = (
            whole.state_dict(),
            whole.config.vision_config.num_attention_heads,
            whole.config.vision_config.hidden_act,
        )
        text_heads = whole.config.text_config.num_attention_heads
    else:
        state, act, heads, text_heads = (
            openai_clip(unpack(_read(Path(described.path)), described.prefix)),
            "quick_gelu",
            None,
            None,
        )
    vision = CLIPVisionModelWithProjection(_clip_vision(described, state, heads, act))
    if vision.config.image_size != described.image_size:
        raise CheckpointError(
            f"{described.path}: its positions are for images of {vision.config.image_size} px: set image_size to that"
        )
    _fill(vision, state, described)
    encoder = ClipImageEncoder(vision)
    tower, projections = None, None
    if described.text is not None:
        network = CLIPTextModelWithProjection(_clip_text(described, state, text_heads, act))
        _fill(network, state, described)
        tower = ClipTower(network)
        projections = Projections.of_image(vision.visual_projection)
    return ForeignModel(encoder, _config(described, {}, encoder.width), "cls", tower, projections).eval()


CLIP_HEAD = 64
"""Channels per attention head of every CLIP that OpenAI published."""


def _clip_vision(
    described: ForeignCheckpoint, state: dict[str, Tensor], heads: int | None, act: str
) -> CLIPVisionConfig:
    names = ("vision_model.embeddings.patch_embedding.weight", "vision_model.embeddings.position_embedding.weight",
             "vision_model.encoder.layers.0.mlp.fc1.weight", "visual_projection.weight")  # fmt: skip
    _require(described, state, *names)
    patches, positions, hidden, projection = (state[name] for name in names)
    side = round((len(positions) - 1) ** 0.5) * patches.shape[-1]
    return CLIPVisionConfig(
        hidden_size=patches.shape[0], intermediate_size=hidden.shape[0], num_hidden_layers=_depth(state, "vision_model"),
        num_attention_heads=heads or patches.shape[0] // CLIP_HEAD, image_size=side, patch_size=patches.shape[-1],
        projection_dim=projection.shape[0], hidden_act=act,
    )  # fmt: skip


def _clip_text(described: ForeignCheckpoint, state: dict[str, Tensor], heads: int | None, act: str) -> CLIPTextConfig:
    names = ("text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
             "text_model.encoder.layers.0.mlp.fc1.weight", "text_projection.weight")  # fmt: skip
    _require(described, state, *names)
    words, positions, hidden, projection = (state[name] for name in names)
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=words.shape[1], intermediate_size=hidden.shape[0],
        num_hidden_layers=_depth(state, "text_model"), num_attention_heads=heads or words.shape[1] // CLIP_HEAD,
        max_position_embeddings=len(positions), projection_dim=projection.shape[0], hidden_act=act,
        eos_token_id=len(words) - 1, bos_token_id=len(words) - 2, pad_token_id=len(words) - 1,
    )  # fmt: skip


def _depth(state: dict[str, Tensor], side: str) -> int:
    start = f"{side}.encoder.layers."
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in state if name.startswith(start))


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
        raise CheckpointError(f"{described.path} holds a model of type '{kind}', expected vit, vit_mae, resnet or clip")
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
