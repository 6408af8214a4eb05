"""The encoder's inner states, sizes and learning rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from msvl.config.errors import CheckpointError
from msvl.evaluation.tuning.blocks import hidden_states, parameter_groups, trainable_encoder
from tests.models.tiny import tiny_batch, tiny_config, tiny_model


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_states_end_in_what_the_encoder_returns(stem: str) -> None:
    model = tiny_model(tiny_config(image={"stem": stem})).eval()
    encoder, pixels = trainable_encoder(model, None)
    images = tiny_batch().images
    assert torch.allclose(pixels(images), model.standardise(images), atol=1e-6)
    states = hidden_states(encoder.eval(), pixels(images), drop_path=0.5)
    assert len(states) == 2
    whole = model.image_encoder(pixels(images))
    assert torch.allclose(encoder.layernorm(states[-1])[:, 1:], whole.patches, atol=1e-6)


def test_training_leaves_the_model_alone() -> None:
    model = tiny_model()
    encoder, _ = trainable_encoder(model, None)
    with torch.no_grad():
        next(encoder.parameters()).add_(1.0)
    assert not torch.equal(next(encoder.parameters()), next(model.image_encoder.parameters()))


def test_branches_are_dropped_for_whole_images_and_scaled_up() -> None:
    model = tiny_model()
    encoder, pixels = trainable_encoder(model, None)
    encoder.train()
    images = tiny_batch().images[:1].expand(400, -1, -1, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        first, last = hidden_states(encoder, pixels(images), drop_path=0.5)
        whole = hidden_states(encoder.eval(), pixels(images[:1]), drop_path=0.0)
    assert torch.allclose(first, whole[0].expand_as(first), atol=1e-5)  # the first block is never dropped
    skipped = (last - first).abs().amax(dim=(1, 2)) == 0
    assert 0.17 < skipped.float().mean().item() < 0.33  # both branches dropped: 1/4
    attention = encoder.layers[1].attention(encoder.layers[1].layernorm_before(whole[0]), None)[0]
    alone = last[((last - first - 2 * attention).abs().amax(dim=(1, 2)) < 1e-4)]
    assert 0.15 < len(alone) / 400 < 0.35  # attention kept and doubled, the other branch dropped: 1/4


def test_another_size_keeps_weights_and_moves_positions() -> None:
    model = tiny_model().eval()
    encoder, pixels = trainable_encoder(model, 64)
    states = hidden_states(encoder.eval(), pixels(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)), drop_path=0.0)
    assert states[-1].shape[1] == 1 + 64
    assert torch.equal(encoder.layers[0].mlp.fc1.weight, model.image_encoder.layers[0].mlp.fc1.weight)
    with pytest.raises(CheckpointError, match="segmentation at 60 px: the encoder has patches of 8 px"):
        trainable_encoder(model, 60)


def test_learning_rates_fall_with_depth_by_hand() -> None:
    encoder, _ = trainable_encoder(tiny_model(), None)
    head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 3))
    groups = parameter_groups(encoder, head, lr=1.0, weight_decay=0.05, layer_decay=0.5, backbone_share=0.1)
    of = {id(value): group for group in groups for value in group["params"]}
    expected = {
        "embeddings.cls_token": 0.1 * 0.5**3, "layers.0.mlp.fc1.weight": 0.1 * 0.5**2,
        "layers.1.mlp.fc1.weight": 0.1 * 0.5, "layernorm.weight": 0.1,
    }  # fmt: skip
    named = dict(encoder.named_parameters())
    for name, rate in expected.items():
        assert of[id(named[name])]["peak"] == pytest.approx(rate), name
    assert of[id(head[1].weight)]["peak"] == 1.0
    assert of[id(head[1].weight)]["weight_decay"] == 0.05
    for value in (
        head[1].bias,
        head[0].weight,
        named["embeddings.position_embeddings"],
        named["layers.0.mlp.fc1.bias"],
    ):
        assert of[id(value)]["weight_decay"] == 0.0
    assert sum(len(group["params"]) for group in groups) == len(list(encoder.parameters())) + 4
