"""Position tables."""

from __future__ import annotations

import torch
from transformers import ViTConfig, ViTModel
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from msvl.models.positions import resize_positions, sine_cosine_positions


def test_sine_cosine_table_is_the_one_of_mae() -> None:
    row_first = build_2d_sinusoidal_position_embedding(height=5, width=7, embed_dim=24)
    # MAE's published weights have the column's half first, as transformers notes beside its ViTMAEEmbeddings.
    torch.testing.assert_close(sine_cosine_positions(5, 7, 24), row_first.roll(12, dims=1))


def test_resizing_is_what_transformers_does_for_another_image_size() -> None:
    config = ViTConfig(image_size=32, patch_size=8, hidden_size=12, num_hidden_layers=0, num_attention_heads=2)
    embeddings = ViTModel(config, add_pooling_layer=False).embeddings
    expected = embeddings.interpolate_pos_encoding(torch.zeros(1, 1 + 49, 12), 56, 56)
    torch.testing.assert_close(resize_positions(embeddings.position_embeddings, grid=7, prefix=1), expected)


def test_resizing_to_the_same_grid_changes_nothing() -> None:
    table = torch.randn(1, 17, 8)
    assert resize_positions(table, grid=4, prefix=1) is table


def test_resizing_keeps_a_gradient_across_the_image() -> None:
    ramp = torch.linspace(0, 1, 4).repeat(4, 1).reshape(1, 16, 1)
    grown = resize_positions(torch.cat([torch.full((1, 1, 1), 9.0), ramp], dim=1), grid=8, prefix=1)
    assert grown[0, 0] == 9
    rows = grown[0, 1:, 0].reshape(8, 8)
    assert (rows.diff(dim=1) > 0).all()
    torch.testing.assert_close(rows, rows[:1].expand(8, 8))
