"""Building from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import BertConfig, BertModel, ViTConfig, ViTModel
from transformers.integrations import HfDeepSpeedConfig
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from msvl.models.config import ImageConfig
from tests.models.tiny import SIDE, VOCABULARY, tiny_batch, tiny_config, tiny_model

SMALL: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def published(folder: Path) -> tuple[str, str]:
    """Save two small encoders with random weights."""
    torch.manual_seed(5)
    ViTModel(ViTConfig(image_size=64, patch_size=8, **SMALL)).save_pretrained(folder / "vit")
    BertModel(BertConfig(vocab_size=VOCABULARY + 7, **SMALL)).save_pretrained(folder / "bert")
    return str(folder / "vit"), str(folder / "bert")


def test_the_seed_decides_the_parameters() -> None:
    first, again, other = (tiny_model(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["image_projection.weight"], other["image_projection.weight"])


def test_published_sizes_win_over_the_configured_ones(tmp_path: Path) -> None:
    vit, bert = published(tmp_path)
    model = tiny_model(tiny_config(image={"weights": vit, "width": 900, "heads": 9}, text={"weights": bert}))
    assert (model.image_encoder.width, model.text_encoder.width) == (24, 24)
    embeddings = model(tiny_batch(), seed=0, reconstruct=True)
    assert embeddings.patches.shape == (5, (SIDE // 8) ** 2, 20)
    assert embeddings.reconstruction is not None
    assert embeddings.reconstruction.token_logits.shape[-1] == VOCABULARY + 7


def test_published_weights_are_in_the_model(tmp_path: Path) -> None:
    vit, bert = published(tmp_path)
    model = tiny_model(tiny_config(image={"weights": vit}, text={"weights": bert}))
    for folder, model_class, own in ((vit, ViTModel, "image_encoder."), (bert, BertModel, "text_encoder.")):
        source = model_class.from_pretrained(folder, add_pooling_layer=False).state_dict()
        state = model.state_dict()
        for name, value in source.items():
            if "position_embeddings" not in name:
                assert torch.equal(state[own + name], value), name


def test_building_is_not_partitioned_while_zero_3_is_configured(tmp_path: Path) -> None:
    vit, bert = published(tmp_path)
    plain = tiny_model(tiny_config(image={"weights": vit}, text={"weights": bert}))
    # accelerate keeps such an object alive when a run asks for stage 3.
    settings = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1})
    under_stage_3 = tiny_model(tiny_config(image={"weights": vit}, text={"weights": bert}))
    assert is_deepspeed_zero3_enabled()
    del settings
    for name, value in plain.state_dict().items():
        assert torch.equal(under_stage_3.state_dict()[name], value), name


def test_pixel_statistics_of_the_configuration_win_over_the_training_set_s() -> None:
    assert tiny_model().config.pixel_mean == 0.5
    model = tiny_model(tiny_config(image={"pixel_mean": 0.4, "pixel_std": 0.2}))
    assert (model.config.pixel_mean, model.config.pixel_std) == (0.4, 0.2)


def test_attention_runs_by_the_fused_kernel() -> None:
    model = tiny_model()
    layers = [module for module in model.modules() if hasattr(module, "scaling")]
    assert len(layers) == 5
    assert {layer.config._attn_implementation for layer in layers} == {"sdpa"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": "conv", "width": 96, "heads": 3, "patch": 16}, "width 96 must be a multiple of 64"),
        ({"stem": "conv", "width": 192, "heads": 3, "patch": 14}, "patch must be 4, 8, 16 or 32, found 14"),
        ({"stem": "conv", "weights": "somewhere"}, "fits no published weights"),
        ({"width": 100, "heads": 3}, "width 100 must be a multiple of heads 3"),
        ({"width": 6, "heads": 3}, "multiples of 4"),
        ({"mask_ratio": 0}, "greater than 0"),
    ],
)
def test_settings_that_fit_no_encoder_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageConfig.model_validate(change)
