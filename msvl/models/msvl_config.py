"""The model's own record of itself: enough to build it again without the run's configuration or the initial weights."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from msvl.models.config import ImageConfig, TextConfig


class MSVLConfig(PretrainedConfig):
    """config.json of an exported model."""

    model_type = "msvl"

    image: dict[str, Any] | None = None
    """`model.image` of the run."""
    text: dict[str, Any] | None = None
    """`model.text` of the run."""
    image_network: dict[str, Any] | None = None
    """What the image family's `describe` returned."""
    text_network: dict[str, Any] | None = None
    """What the text family's `describe` returned."""
    channels: int = 768
    """C of the shared space."""
    image_size: int = 224
    """Side of the square that the model sees, in pixels."""
    target_scale: int = 1
    """Side of a training image as a multiple of `image_size`: the encoder sees means, the decoder predicts the fine pixels."""
    pixel_mean: float = 0.5
    """Mean grey value of the training set, in [0, 1]."""
    pixel_std: float = 0.25
    """Standard deviation of the training set's grey values, in [0, 1]."""
    mask_token_id: int = 4
    """[MASK] of the tokenizer."""
    unknown_token_id: int = 1
    """[UNK] of the tokenizer, never masked."""
    recompute_layers: bool = False
    """Recompute encoder activations in the backward pass."""

    @property
    def image_section(self) -> ImageConfig:
        """`image`, typed."""
        return ImageConfig.model_validate(self.image or {})

    @property
    def text_section(self) -> TextConfig:
        """`text`, typed."""
        return TextConfig.model_validate(self.text or {})
