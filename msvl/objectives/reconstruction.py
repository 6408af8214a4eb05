"""What the modality scale needs of the two decoders, summed over micro-batches: a few numbers instead of the predictions.

m micro-batches, b pairs of a micro-batch, M masked patches, D pixels per patch, K masked-token capacity, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn.functional import cross_entropy

from msvl.models.outputs import Embeddings, Reconstruction
from msvl.objectives.precision import full_precision

UNUSED = -100
"""Label of an unused place of the masked-token capacity (transformers' convention)."""


@dataclass(frozen=True)
class ReconstructionSums:
    """Of one rank; the first two carry gradients."""

    error: Tensor
    """[m] mean squared error over the masked patches (every image hides the same number)."""
    token_loss: Tensor
    """[m] summed cross entropy of the masked tokens."""
    tokens: Tensor
    """[m] number of masked tokens."""
    right: Tensor
    """[m] masked tokens guessed right."""
    target_mean: Tensor
    """[m, D] mean masked patch."""
    target_square: Tensor
    """[m] mean square of the masked patches' pixels."""


def summarise(reconstruction: Reconstruction) -> ReconstructionSums:
    """Return the sums of one micro-batch (m = 1).

    The error is the mean over [b, M, D] of (prediction - target)^2; the token loss the sum over used places of
    -log softmax(logits)_label.
    """
    target = full_precision(reconstruction.patch_target)
    error = (full_precision(reconstruction.patch_prediction) - target).square().mean()
    logits = full_precision(rearrange(reconstruction.token_logits, "b k v -> (b k) v"))
    labels = rearrange(reconstruction.token_labels, "b k -> (b k)")
    used = labels != UNUSED
    with torch.no_grad():
        right = ((logits.argmax(dim=-1) == labels) & used).sum()
        mean, square = reduce(target, "b m d -> 1 d", "mean"), target.square().mean()
    return ReconstructionSums(
        error=error.reshape(1),
        token_loss=cross_entropy(logits, labels, ignore_index=UNUSED, reduction="sum").reshape(1),
        tokens=used.sum().reshape(1),
        right=right.reshape(1),
        target_mean=mean,
        target_square=square.reshape(1),
    )


def summarised(embeddings: Embeddings) -> Embeddings:
    """Return the embeddings with sums in the place of predictions."""
    found = embeddings.reconstruction
    return replace(embeddings, reconstruction=summarise(found)) if isinstance(found, Reconstruction) else embeddings
