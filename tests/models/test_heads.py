"""Pooling."""

from __future__ import annotations

import torch

from msvl.models.heads import mean_over_sentences, mean_over_tokens, to_unit_length
from tests.models.tiny import SENTENCES, tiny_tokens

TOKENS = tiny_tokens([[5, 4, 6], [1], [7, 8]])


def test_sentence_means_are_those_of_a_plain_loop() -> None:
    hidden = torch.randn(3, TOKENS.input_ids.shape[1], 6)
    pooled = mean_over_sentences(hidden, TOKENS.sentence_index, SENTENCES)
    for row in range(3):
        for number in range(SENTENCES):
            own = hidden[row][TOKENS.sentence_index[row] == number]
            expected = own.mean(dim=0) if len(own) else torch.zeros(6)
            torch.testing.assert_close(pooled[row, number], expected)


def test_token_mean_leaves_padding_out() -> None:
    hidden = torch.randn(3, TOKENS.input_ids.shape[1], 6)
    pooled = mean_over_tokens(hidden, TOKENS.attention_mask)
    for row in range(3):
        torch.testing.assert_close(pooled[row], hidden[row][TOKENS.attention_mask[row].bool()].mean(dim=0))


def test_unit_length_is_float32_also_for_bfloat16() -> None:
    unit = to_unit_length(torch.randn(4, 9).bfloat16())
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(4))
