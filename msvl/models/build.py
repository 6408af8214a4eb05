"""Build the model of a run from its configuration."""

from __future__ import annotations

from typing import Protocol

from msvl.models.config import ModelConfig
from msvl.models.families import IMAGE_FAMILIES, TEXT_FAMILIES
from msvl.models.families.published import whole_parameters
from msvl.models.msvl_config import MSVLConfig
from msvl.models.msvl_model import MSVLModel


class Vocabulary(Protocol):
    """The part of ReportTokeniser that the model needs."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""

    @property
    def unk_id(self) -> int:
        """Id of [UNK]."""


def build_model(
    config: ModelConfig,
    *,
    image_size: int,
    tokeniser: Vocabulary,
    pixel_mean: float,
    pixel_std: float,
    target_scale: int = 1,
) -> MSVLModel:
    """Build the model with random or published weights; torch's global seed decides what is random.

    Args:
        config: The section `model`.
        image_size: Side of the square in pixels.
        tokeniser: The run's tokenizer.
        pixel_mean: The training set's mean grey value in [0, 1], used when the configuration gives none.
        pixel_std: Its standard deviation.
        target_scale: Side of a training image as a multiple of `image_size`, see `data.target_scale`.

    Raises:
        CheckpointError: Published weights cannot be read or do not fit.
        ConfigError: The tokenizer does not fit the published weights.
    """
    image, text = config.image, config.text
    described = MSVLConfig(
        # Where initial weights came from is no part of the model: it must load where that folder is absent.
        image=image.model_dump(mode="json") | {"weights": None},
        text=text.model_dump(mode="json") | {"weights": None, "tokenizer": None},
        image_network=IMAGE_FAMILIES[image.family].describe(image, image_size),
        text_network=TEXT_FAMILIES[text.family].describe(text, tokeniser.vocab_size, tokeniser.pad_id),
        channels=config.channels,
        image_size=image_size,
        target_scale=target_scale,
        pixel_mean=pixel_mean if image.pixel_mean is None else image.pixel_mean,
        pixel_std=pixel_std if image.pixel_std is None else image.pixel_std,
        mask_token_id=tokeniser.mask_id,
        unknown_token_id=tokeniser.unk_id,
        recompute_layers=config.gradient_checkpointing,
    )
    with whole_parameters():
        model = MSVLModel(described)
        if image.weights is not None:
            model.image_encoder.load_published(image.weights)
        if text.weights is not None:
            model.text_encoder.load_published(text.weights, model.text_decoder)
    return model
