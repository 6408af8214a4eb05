"""Logits of own images against all reports, row block by row block, computed again in the backward pass.

The matrix form keeps five matrices of b x G (logits, masked logits, two softmaxes, gradient); here only a block of rows
exists at a time, so memory is that of the embeddings, and each logit belongs to one rank.

b own images, G all reports, C channels, r rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

from msvl.objectives.blocks import row_blocks
from msvl.objectives.contrastive import EXCLUDED
from msvl.objectives.workspace import Workspace

PairRows = Callable[[slice], Tensor]
"""Rows of own pairs -> [r, G] bool. Own places are always among them."""


class Rows(NamedTuple):
    """What both directions of a contrast need of own images against all reports."""

    rows: Tensor
    """[b] log-sum-exp over all reports."""
    columns: Tensor
    """[G] log-sum-exp over own images: this rank's part of the report side."""
    positive: Tensor
    """[b] logit of the own report, or the mean over its positives."""
    candidates: Tensor
    """[b] number of reports that take part; no gradient."""
    best_other: Tensor
    """[b] largest logit of a report that is no positive; no gradient."""
    total: Tensor
    """[b] sum of the logits that take part; no gradient."""


def two_way_rows(
    image: Tensor, text: Tensor, scale: Tensor, own: Tensor, allowed: PairRows | None, positives: PairRows | None = None
) -> Rows:
    """Return log-sum-exps and statistics of the logits scale * image @ text^T.

    Args:
        image: [b, C], at least fp32.
        text: [G, C].
        scale: [1].
        own: [b] columns of the own reports.
        allowed: Pairs that take part; None takes every pair.
        positives: Among them; None is the own pair alone.
    """
    return Rows(*_TwoWayRows.apply(image, text, scale, own, allowed, positives))


def sigmoid_rows(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor,
    own: Tensor,
    allowed: PairRows | None,
    positives: PairRows | None = None,
) -> Tensor:
    """Return [b]: per own image the sum over reports of -log sigmoid(y (scale * cosine + bias)), y = 1 for positives.

    Args:
        image: [b, C], at least fp32.
        text: [G, C].
        scale: [1].
        bias: [1].
        own: [b] columns of the own reports.
        allowed: Pairs that take part; None takes every pair.
        positives: Among them; None is the own pair alone. y is -1 elsewhere.
    """
    losses: Tensor = _SigmoidRows.apply(image, text, scale, bias, own, allowed, positives)
    return losses


class _TwoWayRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        own: Tensor,
        allowed: PairRows | None,
        positives: PairRows | None,
    ) -> tuple[Tensor, ...]:
        rows, positive, best_other = (image.new_empty(len(image)) for _ in range(3))
        total = scale * (image @ text.sum(dim=0))
        candidates = image.new_full((len(image),), float(len(text)))
        columns = image.new_full((len(text),), EXCLUDED)
        workspace = Workspace(image)
        for block in row_blocks(len(image), len(text)):
            logits = _logits(image[block], text, scale, workspace)
            if allowed is not None:
                mask = allowed(block)
                candidates[block] = mask.sum(dim=1).to(image.dtype)
                total[block] -= (logits * ~mask).sum(dim=1)
                logits.masked_fill_(~mask, EXCLUDED)
            rows[block] = _log_sum_exp(logits, 1, workspace)
            columns = torch.logaddexp(columns, _log_sum_exp(logits, 0, workspace))
            if positives is None:
                places = own[block].unsqueeze(1)
                positive[block] = logits.gather(1, places).squeeze(1)
                logits.scatter_(1, places, EXCLUDED)
            else:
                chosen = positives(block)
                positive[block] = (logits * chosen).sum(dim=1) / chosen.sum(dim=1)
                logits.masked_fill_(chosen, EXCLUDED)
            best_other[block] = logits.amax(dim=1)
        ctx.save_for_backward(image, text, scale, own, rows, columns)
        ctx.allowed, ctx.positives = allowed, positives
        ctx.mark_non_differentiable(candidates, best_other, total)
        return rows, columns, positive, candidates, best_other, total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, row_gradient: Tensor, column_gradient: Tensor, positive_gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, ...]:
        image, text, scale, own, rows, columns = ctx.saved_tensors
        image_gradient, text_gradient, scale_gradient = _gradients_of(image, text, scale)
        workspace = Workspace(image)
        for block in row_blocks(len(image), len(text)):
            logits = _logits(image[block], text, scale, workspace)
            if ctx.allowed is not None:
                logits.masked_fill_(~ctx.allowed(block), EXCLUDED)
            gradient = torch.sub(logits, rows[block].unsqueeze(1), out=workspace.take("spare", *logits.shape))
            gradient.exp_().mul_(row_gradient[block].unsqueeze(1))
            gradient.addcmul_(logits.sub_(columns).exp_(), column_gradient)
            pull = positive_gradient[block].unsqueeze(1)
            if ctx.positives is None:
                gradient.scatter_add_(1, own[block].unsqueeze(1), pull)
            else:
                chosen = ctx.positives(block)
                gradient.addcmul_(chosen.to(gradient.dtype), pull / chosen.sum(dim=1, keepdim=True))
            # The gradient of the unscaled product, times the scale at the end.
            torch.mm(gradient, text, out=image_gradient[block])
            scale_gradient += (image_gradient[block] * image[block]).sum()
            text_gradient.addmm_(gradient.T, image[block])
        return image_gradient.mul_(scale), text_gradient.mul_(scale), scale_gradient, None, None, None


class _SigmoidRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor,
        own: Tensor,
        allowed: PairRows | None,
        positives: PairRows | None,
    ) -> Tensor:
        losses = image.new_empty(len(image))
        for block in row_blocks(len(image), len(text)):
            logits = scale * (image[block] @ text.T) + bias
            signs = _signs(own, positives, block, like=logits)
            mask = None if allowed is None else allowed(block)
            found = -logsigmoid(signs * logits)
            losses[block] = (found if mask is None else found * mask).sum(dim=1)
        ctx.save_for_backward(image, text, scale, bias, own)
        ctx.allowed, ctx.positives = allowed, positives
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, bias, own = ctx.saved_tensors
        image_gradient, text_gradient, scale_gradient = _gradients_of(image, text, scale)
        bias_gradient = torch.zeros_like(bias)
        for block in row_blocks(len(image), len(text)):
            logits = scale * (image[block] @ text.T) + bias
            signs = _signs(own, ctx.positives, block, like=logits)
            gradient = -signs * torch.sigmoid(-signs * logits) * incoming[block].unsqueeze(1)
            if ctx.allowed is not None:
                gradient = gradient * ctx.allowed(block)
            bias_gradient += gradient.sum()
            torch.mm(gradient, text, out=image_gradient[block])
            scale_gradient += (image_gradient[block] * image[block]).sum()
            text_gradient.addmm_(gradient.T, image[block])
        return image_gradient.mul_(scale), text_gradient.mul_(scale), scale_gradient, bias_gradient, None, None, None


def _gradients_of(image: Tensor, text: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where gradients go: the first is written block by block, the others are added to."""
    return torch.empty_like(image), torch.zeros_like(text), torch.zeros_like(scale)


def _logits(image: Tensor, text: Tensor, scale: Tensor, workspace: Workspace) -> Tensor:
    """Return [r, G] in the workspace; the scale goes to the few embeddings of the rows, not to their many logits."""
    return torch.mm(scale * image, text.T, out=workspace.take("logits", len(image), len(text)))


def _log_sum_exp(logits: Tensor, dim: int, workspace: Workspace) -> Tensor:
    """Return what `Tensor.logsumexp` does, with the exponentials in the workspace."""
    largest = logits.amax(dim=dim, keepdim=True)
    exponentials = torch.sub(logits, largest, out=workspace.take("spare", *logits.shape)).exp_()
    return exponentials.sum(dim=dim).log_().add_(largest.squeeze(dim))


def _signs(own: Tensor, positives: PairRows | None, block: slice, *, like: Tensor) -> Tensor:
    """Return [r, G]: 1 at positives, -1 elsewhere."""
    if positives is None:
        return torch.full_like(like, -1.0).scatter_(1, own[block].unsqueeze(1), 1.0)
    return 2 * positives(block).to(like.dtype) - 1
