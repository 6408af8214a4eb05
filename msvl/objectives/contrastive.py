"""The row/column core of every two-way contrastive loss: each logit is computed by exactly one rank.

Rank r holds the rows of its own b images against all G reports. The image side is a softmax over a row, local to the
rank; the report side a softmax over a column, whose log-sum-exp is combined across ranks.

b own images, G all reports. In all functions `logits` is [b, G], `own` [b] the columns of the own reports, and `allowed`
[b, G] bool says which pairs take part; None is all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msvl.collectives.gather import exchange
from msvl.collectives.reduce import ratio_of_totals

EXCLUDED = -1.0e9
"""Logit of a pair that takes no part: its exponential is exactly 0 in fp32, and unlike -inf it never makes NaN."""


def symmetric_cross_entropy(
    logits: Tensor, own: Tensor, allowed: Tensor | None, positives: Tensor | None = None
) -> Tensor:
    """Collective. Return this rank's share of InfoNCE in both directions, summed.

    Args:
        logits: [b, G], own images against all reports.
        own: [b] columns of the own reports: rank * b ... rank * b + b - 1.
        allowed: [b, G] bool, pairs that take part in the denominators; None is all. Must be symmetric over the batch.
        positives: [b, G] bool, an equivalence over the batch and a part of `allowed`: the mean of -log softmax over them
            takes the place of the own pair's. None is the own pair alone.

    Returns:
        Scalar: mean over own images of -log softmax over the row, plus mean over own reports of -log softmax over the
        column. Its mean over ranks is the loss of the global batch.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, EXCLUDED)
    positive = logits.gather(1, own.unsqueeze(1)).squeeze(1)
    if positives is not None:  # groups are equally large in a row and in a column, so both sums over all are one
        positive = (logits * positives).sum(dim=1) / positives.sum(dim=1)
    rows = logits.logsumexp(dim=1)
    columns = over_all_images(logits.logsumexp(dim=0))
    return (rows - positive).mean() + (columns - positive).mean()


def over_all_images(columns: Tensor) -> Tensor:
    """Collective. Return [b]: the log-sum-exp of each own report over the images of all ranks.

    Args:
        columns: [G], every report's over this rank's images. Each part travels to its report's rank alone.
    """
    return exchange(columns).logsumexp(dim=0)


def chance_loss(allowed: Tensor | None, logits: Tensor) -> Tensor:
    """Return the one-way loss of embeddings that tell nothing apart, a scalar: the mean over rows of log candidates."""
    candidates = torch.ones_like(logits, dtype=torch.bool) if allowed is None else allowed
    return candidates.sum(dim=1).to(logits.dtype).log().mean()


def retrieval_accuracy(logits: Tensor, own: Tensor, allowed: Tensor | None) -> Tensor:
    """Return the share of rows whose largest admissible logit is their own column, a scalar in 0 ... 1."""
    masked = logits if allowed is None else logits.masked_fill(~allowed, EXCLUDED)
    return (masked.argmax(dim=1) == own).to(logits.dtype).mean()


def similarity_metrics(logits: Tensor, own: Tensor, allowed: Tensor | None, *, name: str) -> dict[str, Tensor]:
    """Collective. Return what tells whether a two-way contrast learns: scalars without gradient, by name.

    NAME_accuracy: in-batch retrieval, image to report; NAME_chance: the loss of both directions at chance; NAME_positive and
    NAME_negative: the mean logits of own pairs and of the others that take part.
    """
    with torch.no_grad():
        positive = logits.gather(1, own.unsqueeze(1)).squeeze(1)
        negatives = torch.ones_like(logits, dtype=torch.bool) if allowed is None else allowed.clone()
        negatives.scatter_(1, own.unsqueeze(1), False)
        return {
            f"{name}_accuracy": retrieval_accuracy(logits, own, allowed),
            f"{name}_chance": 2 * chance_loss(allowed, logits),
            f"{name}_positive": positive.mean(),
            f"{name}_negative": ratio_of_totals((logits * negatives).sum(), negatives.sum()),
        }
