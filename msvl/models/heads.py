"""From hidden states to the shared space: pooling and linear projections.

B batch, L tokens, S sentence capacity, C shared channels.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional


def mean_over_sentences(hidden: Tensor, sentence_index: Tensor, num_sentences: int) -> Tensor:
    """Average the hidden states of each sentence's tokens.

    The projection to the shared space is affine, so the mean of projected tokens is the projection of this mean, which
    costs L / S times less.

    Args:
        hidden: [B, L, E].
        sentence_index: [B, L] int64, -1 for tokens of no sentence.
        num_sentences: S.

    Returns:
        [B, S, E], zero for sentences without tokens.
    """
    numbers = torch.arange(num_sentences, device=hidden.device)
    belongs = rearrange(sentence_index, "b l -> b 1 l") == rearrange(numbers, "s -> 1 s 1")
    counts = reduce(belongs.long(), "b s l -> b s 1", "sum").clamp(min=1)
    return torch.bmm(belongs.to(hidden.dtype) / counts.to(hidden.dtype), hidden)


def mean_over_tokens(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the hidden states [B, L, E] of all tokens that are not padding; returns [B, E]."""
    weights = attention_mask.to(hidden.dtype)
    total = reduce(hidden * rearrange(weights, "b l -> b l 1"), "b l e -> b e", "sum")
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1)


def to_unit_length(embeddings: Tensor) -> Tensor:
    """Normalise [B, C] in float32 or better: cosines are multiplied by up to 100 and need the digits."""
    return functional.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=-1)
