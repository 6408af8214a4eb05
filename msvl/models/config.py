"""Configuration of the two encoders, their decoders and the shared space (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from msvl.config.base import Config


class ImageDecoderConfig(Config):
    """The light decoder of the masked autoencoder."""

    width: PositiveInt = 512
    """Channels (MAE: 512)."""
    depth: PositiveInt = 4
    """Transformer layers (MaCo: 4; the paper: 'light')."""
    heads: PositiveInt = 16
    """Attention heads (MAE: 16)."""


class ImageConfig(Config):
    """The image encoder."""

    family: Literal["vit"] = "vit"
    """Adapter in msvl/models/families."""
    weights: str | None = None
    """Local folder or hub name of initial encoder weights; null is random. Sizes below are then read from it."""
    width: PositiveInt = 768
    """Channels (ViT-B)."""
    depth: PositiveInt = 12
    """Layers (ViT-B)."""
    heads: PositiveInt = 12
    """Attention heads (ViT-B)."""
    mlp_width: PositiveInt = 3072
    """Channels of the hidden layer of each block (ViT-B)."""
    patch: PositiveInt = 16
    """Patch side in pixels (ViT-B/16)."""
    stem: Literal["patch", "conv"] = "patch"
    """'patch': the projection of published ViTs; 'conv': overlapping 3x3 convolutions, better on little data."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Share of patches hidden from the masked autoencoder (MaCo: 0.5)."""
    pooling: Literal["cls", "mean"] = "cls"
    """The global image feature: the CLS token (the paper's ViT), or the mean of the patch tokens."""
    normalise_target: bool = True
    """Standardise each target patch before the squared error (MAE, MRM)."""
    pixel_mean: float | None = None
    """Mean grey value in [0, 1]; null takes the training set's from its manifest."""
    pixel_std: float | None = None
    """Standard deviation in [0, 1]; null takes the training set's from its manifest."""
    decoder: ImageDecoderConfig = ImageDecoderConfig()

    @model_validator(mode="after")
    def _check(self) -> ImageConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.width % 4 or self.decoder.width % 4:
            raise ValueError("width and decoder.width must be multiples of 4 (sine and cosine of two coordinates)")
        if self.decoder.width % self.decoder.heads:
            raise ValueError(
                f"decoder.width {self.decoder.width} must be a multiple of decoder.heads {self.decoder.heads}"
            )
        if self.stem == "conv":
            self._check_conv_stem()
        return self

    def _check_conv_stem(self) -> None:
        if self.patch not in (4, 8, 16, 32):
            raise ValueError(f"stem 'conv' halves the image: patch must be 4, 8, 16 or 32, found {self.patch}")
        step = 8 * self.patch // 2
        if self.width % step:
            raise ValueError(f"stem 'conv' with patch {self.patch}: width {self.width} must be a multiple of {step}")
        if self.weights is not None:
            raise ValueError("stem 'conv' fits no published weights: set stem to patch, or weights to null")


class TextConfig(Config):
    """The text encoder."""

    family: Literal["bert"] = "bert"
    """Adapter in msvl/models/families."""
    weights: str | None = None
    """Local folder or hub name of initial encoder weights; null is random."""
    tokenizer: str | None = None
    """Local folder or hub name; null takes `weights`, or the tokenizer trained at packing when there are no weights."""
    width: PositiveInt = 768
    """Channels (BERT-base)."""
    depth: PositiveInt = 12
    """Layers (BERT-base)."""
    heads: PositiveInt = 12
    """Attention heads (BERT-base)."""
    mlp_width: PositiveInt = 3072
    """Channels of the hidden layer of each block (BERT-base)."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Share of report tokens hidden from the masked language model (MRM: 0.5)."""
    pooling: Literal["cls", "mean"] = "cls"
    """The global report feature: the [CLS] token (the paper's BERT), or the mean of all tokens that are not padding."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout; 0 keeps a run independent of the number of ranks."""

    @model_validator(mode="after")
    def _check(self) -> TextConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class ModelConfig(Config):
    """Two encoders and the space they share."""

    image: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
    channels: PositiveInt = 768
    """C, channels of the shared space (MaCo: 768)."""
    gradient_checkpointing: bool = False
    """Recompute encoder activations in the backward pass: less memory, about a third more time."""
