"""What is hidden from the two decoders, as a pure function of (seed, step, sample): the same on any number of ranks.

B samples, N patches, V visible and M masked patches per image (V + M = N), L token capacity, K masked-token capacity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from msvl.data.batch import Tokens
from msvl.models.noise import hash_uniform

PATCH_STREAM, TOKEN_STREAM, RULE_STREAM, WORD_STREAM = 1, 2, 3, 4
"""Keys that keep the draws of one sample and step apart."""

UNUSED_LABEL = -100
"""Label that cross entropy ignores."""


@dataclass(frozen=True)
class PatchSplit:
    """Row-major patch numbers, ascending in each row."""

    visible: Tensor
    """[B, V] int64."""
    masked: Tensor
    """[B, M] int64."""


@dataclass(frozen=True)
class MaskedTokens:
    """A report with hidden tokens."""

    input_ids: Tensor
    """[B, L] int64 with replacements."""
    places: Tensor
    """[B, K] int64 positions in the report; where the capacity is unused, any position."""
    labels: Tensor
    """[B, K] int64 true tokens, UNUSED_LABEL where the capacity is unused."""


def patch_noise(seed: int, step: int, sample: Tensor, num_patches: int) -> Tensor:
    """Return [B, N] uniform noise keyed by sample id [B], not by the place in the batch."""
    numbers = torch.arange(num_patches, device=sample.device)
    return hash_uniform(seed, step, PATCH_STREAM, rearrange(sample, "b -> b 1"), rearrange(numbers, "n -> 1 n"))


def split_patches(noise: Tensor, mask_ratio: float) -> PatchSplit:
    """Hide the share `mask_ratio` of patches, the same number in every image (He et al. 2022, random masking).

    Args:
        noise: [B, N]; the patches with the smallest values stay visible.
        mask_ratio: In (0, 1); at least one patch is hidden and one stays.
    """
    num_patches = noise.shape[1]
    num_masked = min(max(1, int(mask_ratio * num_patches + 0.5)), num_patches - 1)
    order = noise.argsort(dim=1, stable=True)
    visible, masked = order[:, : num_patches - num_masked], order[:, num_patches - num_masked :]
    return PatchSplit(visible=visible.sort(dim=1).values, masked=masked.sort(dim=1).values)


def token_capacity(length: int, mask_ratio: float) -> int:
    """Return K, enough for the longest report that fits `length` with [CLS] and [SEP]."""
    return max(1, int(mask_ratio * (length - 2) + 0.5))


def mask_tokens(
    tokens: Tokens,
    *,
    seed: int,
    step: int,
    sample: Tensor,
    mask_ratio: float,
    mask_id: int,
    unknown_id: int,
    vocab_size: int,
) -> MaskedTokens:
    """Hide round(ratio * n) of a report's n tokens, at least one; 80 % become [MASK], 10 % a random token, 10 % stay.

    The rule is BERT's (Devlin et al. 2019, 3.1). Special tokens, padding and [UNK] are never chosen.

    Args:
        tokens: Reports; tokens that belong to no sentence are special.
        seed: The run's.
        step: Optimizer step.
        sample: [B] int64 sample ids.
        mask_ratio: In (0, 1).
        mask_id: [MASK].
        unknown_id: [UNK].
        vocab_size: Random replacements are drawn from 0 ... vocab_size - 1.
    """
    length = tokens.input_ids.shape[1]
    capacity = token_capacity(length, mask_ratio)
    rows = rearrange(sample, "b -> b 1")
    positions = rearrange(torch.arange(length, device=sample.device), "l -> 1 l")
    maskable = (tokens.sentence_index >= 0) & (tokens.input_ids != unknown_id)
    noise = hash_uniform(seed, step, TOKEN_STREAM, rows, positions)
    places = noise.masked_fill(~maskable, 2.0).argsort(dim=1, stable=True)[:, :capacity]
    available = maskable.sum(dim=1, keepdim=True)
    wanted = (mask_ratio * available + 0.5).long().clamp(min=1)
    used = torch.arange(capacity, device=sample.device) < torch.minimum(wanted, available)

    original = tokens.input_ids.gather(1, places)
    rule = hash_uniform(seed, step, RULE_STREAM, rows, places)
    random = (hash_uniform(seed, step, WORD_STREAM, rows, places) * vocab_size).long().clamp(max=vocab_size - 1)
    replacement = torch.where(rule < 0.9, random, original).masked_fill(rule < 0.8, mask_id)
    replacement = torch.where(used, replacement, original)
    return MaskedTokens(
        input_ids=tokens.input_ids.scatter(1, places, replacement),
        places=places,
        labels=original.masked_fill(~used, UNUSED_LABEL),
    )
