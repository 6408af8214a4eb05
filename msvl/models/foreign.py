"""Other people's checkpoints: image encoders for probes, fine-tuning and segmentation, with a text tower for zero-shot tasks too.

B batch, N patches, F channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from msvl.config.errors import CheckpointError
from msvl.config.load import load_config
from msvl.data.batch import Tokens
from msvl.models.config import ImageConfig
from msvl.models.families.vit import ViTImageEncoder
from msvl.models.foreign_clip import ClipImageEncoder, build_clip
from msvl.models.foreign_encoders import PooledFirstViT, ResNetImageEncoder, build_encoder, published_kind
from msvl.models.foreign_files import ForeignCheckpoint, read_weights
from msvl.models.foreign_maps import unpack
from msvl.models.foreign_pixels import grey_statistics
from msvl.models.foreign_text import (
    BertTower,
    ClipTower,
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
    if described.format == "openai_clip" or published_kind(described) == "clip":
        clip, clip_tower, clip_projections = build_clip(described)
        return ForeignModel(clip, _config(described, {}, clip.width), "cls", clip_tower, clip_projections).eval()
    encoder, settings = build_encoder(described)
    tower, projections = _text_side(described, encoder.width)
    config = _config(described, settings, encoder.width)
    pooling = "cls" if isinstance(encoder, ResNetImageEncoder | PooledFirstViT) else described.pooling
    return ForeignModel(encoder, config, pooling, tower, projections).eval()


def foreign_tokeniser(path: Path) -> PlainTokeniser | None:
    """Return the tokenizer of what a YAML file describes; None where it has no text side. Raises CheckpointError."""
    described = load_config(path, [], ForeignCheckpoint)
    return None if described.text is None else PlainTokeniser(described.text.tokenizer, described.text.max_tokens)


def _config(described: ForeignCheckpoint, settings: dict[str, Any], width: int) -> MSVLConfig:
    mean, std = grey_statistics(described)
    return MSVLConfig(
        image=ImageConfig().model_dump(mode="json"), image_network=settings, image_size=described.image_size,
        pixel_mean=mean, pixel_std=std, channels=width,
    )  # fmt: skip


def _text_side(described: ForeignCheckpoint, width: int) -> tuple[BertTower | None, Projections | None]:
    if described.text is None:
        return None, None
    text, everything = described.text, ""
    own = described.text.path or described.path
    if not Path(own).is_file():
        raise CheckpointError(f"text.path: there is no file {own}; of a folder, name the file of weights in it")
    state = unpack(read_weights(Path(own)), everything)
    images = state if own == described.path or described.format == "huggingface" else unpack(read_weights(Path(described.path)), everything)  # fmt: skip
    tower = BertTower(text, unpack(state, text.prefix), build_projection(text.projection, state, "text.projection"))
    check_width(tower.projection, tower.bert.config.hidden_size, "text.projection")
    projections = Projections(text, images, width)
    sizes = {out_width(tower.projection, tower.bert.config.hidden_size), projections.width}
    if len(sizes) > 1:
        raise CheckpointError(
            f"text and images do not meet: their projections end at {' and '.join(map(str, sorted(sizes)))} channels"
        )
    return tower, projections
