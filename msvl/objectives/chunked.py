"""Logits of own images against all reports, row block by row block, computed again in the backward pass.

The matrix form keeps five matrices of b x G (logits, masked logits, two softmaxes, gradient); here only a block of rows
exists at a time, so memory is that of the embeddings, and each logit belongs to one rank.

b own images, G all reports, C channels, r rows of a block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

from msvl.objectives.blocks import PairRows, row_blocks
from msvl.objectives.contrastive import EXCLUDED
from msvl.objectives.workspace import Workspace


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


class SigmoidRows(NamedTuple):
    """Losses of own images against all reports; of the other fields, as in `Rows`, none carries a gradient."""

    losses: Tensor
    """[b] sum over reports of -log sigmoid(y (scale * cosine + bias)), y = 1 for positives, -1 elsewhere."""
    positive: Tensor
    """[b], without the bias, as the next ones."""
    candidates: Tensor
    best_other: Tensor
    total: Tensor


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
) -> SigmoidRows:
    """Return the losses of the logits scale * image @ text^T + bias, each pair a yes or no of its own (SigLIP), and statistics.

    Args:
        image: [b, C], at least fp32.
        text: [G, C].
        scale: [1].
        bias: [1].
        own: [b] columns of the own reports.
        allowed: Pairs that take part; None takes every pair.
        positives: Among them; None is the own pair alone.
    """
    return SigmoidRows(*_SigmoidRows.apply(image, text, scale, bias, own, allowed, positives))


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
        rows = image.new_empty(len(image))
        columns = image.new_full((len(text),), EXCLUDED)
        found = _Statistics(image, text, scale)
        workspace = Workspace(image)
        for block in row_blocks(len(image), len(text)):
            logits = _logits(image[block], text, scale, workspace)
            found.exclude(logits, block, allowed)
            rows[block] = _log_sum_exp(logits, 1, workspace)
            columns = torch.logaddexp(columns, _log_sum_exp(logits, 0, workspace))
            found.count(logits, block, own, positives)
        ctx.save_for_backward(image, text, scale, own, rows, columns)
        ctx.allowed, ctx.positives = allowed, positives
        ctx.mark_non_differentiable(found.candidates, found.best_other, found.total)
        return rows, columns, found.positive, found.candidates, found.best_other, found.total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, row_gradient: Tensor, column_gradient: Tensor, positive_gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, ...]:
        image, text, scale, own, rows, columns = ctx.saved_tensors
        gradients = _Gradients(image, text, scale)
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
            gradients.add(gradient, block)
        return *gradients.scaled(), None, None, None


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
    ) -> tuple[Tensor, ...]:
        losses = image.new_empty(len(image))
        found = _Statistics(image, text, scale)
        workspace = Workspace(image)
        for block in row_blocks(len(image), len(text)):
            logits = _logits(image[block], text, scale, workspace)
            found.exclude(logits, block, allowed)  # a logit of EXCLUDED costs nothing and has no slope
            signs = _signs(own, positives, block, like=logits)
            losses[block] = -logsigmoid(signs.mul_(logits + bias)).sum(dim=1)
            found.count(logits, block, own, positives)
        ctx.save_for_backward(image, text, scale, bias, own)
        ctx.allowed, ctx.positives = allowed, positives
        ctx.mark_non_differentiable(found.positive, found.candidates, found.best_other, found.total)
        return losses, found.positive, found.candidates, found.best_other, found.total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, bias, own = ctx.saved_tensors
        gradients = _Gradients(image, text, scale)
        bias_gradient = torch.zeros_like(bias)
        workspace = Workspace(image)
        for block in row_blocks(len(image), len(text)):
            logits = _logits(image[block], text, scale, workspace)
            if ctx.allowed is not None:
                logits.masked_fill_(~ctx.allowed(block), EXCLUDED)
            signs = _signs(own, ctx.positives, block, like=logits)
            slopes = torch.sigmoid_(logits.add_(bias).mul_(signs).neg_())
            gradient = slopes.mul_(signs).mul_(-incoming[block].unsqueeze(1))
            bias_gradient += gradient.sum()
            gradients.add(gradient, block)
        return *gradients.scaled(), bias_gradient, None, None, None


class _Statistics:
    """What is told of own images' logits beside the loss, block by block; fields as in `Rows`."""

    def __init__(self, image: Tensor, text: Tensor, scale: Tensor) -> None:
        self.positive, self.best_other = (image.new_empty(len(image)) for _ in range(2))
        self.candidates = image.new_full((len(image),), float(len(text)))
        self.total = scale * (image @ text.sum(dim=0))

    def exclude(self, logits: Tensor, block: slice, allowed: PairRows | None) -> None:
        """Put EXCLUDED into the block [r, G] where a pair takes no part."""
        if allowed is None:
            return
        mask = allowed(block)
        self.candidates[block] = mask.sum(dim=1).to(logits.dtype)
        self.total[block] -= (logits * ~mask).sum(dim=1)
        logits.masked_fill_(~mask, EXCLUDED)

    def count(self, logits: Tensor, block: slice, own: Tensor, positives: PairRows | None) -> None:
        """Tell positives from others; EXCLUDED stands at the positives afterwards."""
        if positives is None:
            places = own[block].unsqueeze(1)
            self.positive[block] = logits.gather(1, places).squeeze(1)
            logits.scatter_(1, places, EXCLUDED)
        else:
            chosen = positives(block)
            self.positive[block] = (logits * chosen).sum(dim=1) / chosen.sum(dim=1)
            logits.masked_fill_(chosen, EXCLUDED)
        self.best_other[block] = logits.amax(dim=1)


class _Gradients:
    """Of what the logits are made of; those of the embeddings are of the unscaled product, times the scale at the end."""

    def __init__(self, image: Tensor, text: Tensor, scale: Tensor) -> None:
        self._image, self._text, self._scale = image, text, scale
        self._by_image, self._by_text, self._by_scale = map(torch.zeros_like, (image, text, scale))

    def add(self, gradient: Tensor, block: slice) -> None:
        """Add what the gradient [r, G] of a block of logits asks for."""
        image, own = self._image[block], self._by_image[block]
        torch.mm(gradient, self._text, out=own)
        self._by_scale += (own * image).sum()
        self._by_text.addmm_(gradient.T, image)

    def scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return them: image [b, C], text [G, C], scale [1]."""
        return self._by_image.mul_(self._scale), self._by_text.mul_(self._scale), self._by_scale


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
