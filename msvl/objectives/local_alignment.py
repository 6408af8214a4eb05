"""GLoRIA's matching function for all pairs of images and reports, tile by tile, with its own backward pass.

For report k with units (sentences or words) t_n and image i with patches v_j:
s_nj = <t_n, v_j>; u = softmax over the units of s, for every patch; a = softmax over the patches of temp1 u;
c_n = sum_j a_nj v_j; r_n = <c_n, t_n> / (|c_n| |t_n|); Z = log sum_n exp(temp2 r_n).

The published loop forms every c_n. Here <c_n, t_n> = sum_j a_nj s_nj needs no c_n, and |c_n|^2 comes from one of two forms:
'context' forms c_n (N C multiplications per pair and unit), 'gram' takes a^T (V V^T) a (N^2). Nothing of a tile survives it:
the backward pass computes s and a again, so memory does not grow with the number of pairs.

b own images, T reports of a tile, G all reports, N patches, S unit capacity, C channels, R = T S.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

from msvl.objectives.contrastive import EXCLUDED

EPSILON = 1e-8
"""Smallest product of norms in a cosine (GLoRIA)."""

TILE_ELEMENTS = 2**21
"""Entries of s in a tile unless a number of reports is given: 8 MB in fp32, which a CPU's cache holds."""

Form = Literal["context", "gram"]
NormaliseOver = Literal["units_then_patches", "patches"]


@dataclass(frozen=True)
class Matching:
    """The temperatures, and how the work is cut."""

    temp1: float
    temp2: float
    normalise_over: NormaliseOver = "units_then_patches"
    tile: int | None = None
    """Reports per tile; None chooses by TILE_ELEMENTS."""
    form: Form | None = None
    """None chooses the cheaper one."""


def matching_scores(
    patches: Tensor,
    units: Tensor,
    mask: Tensor,
    *,
    temp1: float,
    temp2: float,
    normalise_over: NormaliseOver = "units_then_patches",
    unit_length: bool = False,
    tile: int | None = None,
    form: Form | None = None,
) -> Tensor:
    """Return Z(image i, report k) for every pair, differentiable once in patches and units.

    Args:
        patches: [b, N, C], at least fp32.
        units: [G, S, C]; padded places may hold anything finite.
        mask: [G, S] bool, at least one True in each row.
        temp1: Sharpens the attention over patches.
        temp2: Sharpens the sum over units.
        normalise_over: 'units_then_patches' is GLoRIA's; 'patches' leaves the first softmax out.
        unit_length: Bring patches and units to unit length first (MGCA); GLoRIA does not.
        tile: Reports scored at once.
        form: Of |c|^2.

    Returns:
        [b, G].
    """
    if unit_length:
        patches, units = (vectors / length(vectors).unsqueeze(-1) for vectors in (patches, units))
    options = Matching(temp1=temp1, temp2=temp2, normalise_over=normalise_over, tile=tile, form=form)
    scores: Tensor = _MatchingScores.apply(patches, units, mask, options)
    return scores


def cheaper_form(num_patches: int, channels: int) -> Form:
    """Return the form with fewer multiplications over forward and backward: 4 N C + 3 N^2 against 8 N C per unit and pair."""
    return "gram" if 3 * num_patches < 4 * channels else "context"


def length(vectors: Tensor) -> Tensor:
    """Return the norms over the last axis; the gradient at a zero vector (a padded place) is 0 instead of NaN."""
    return vectors.square().sum(dim=-1).clamp(min=EPSILON**2).sqrt()


class _Tile(NamedTuple):
    reports: Tensor | slice
    width: int


def _tiles(mask: Tensor, *, images: int, num_patches: int, tile: int | None) -> Iterator[_Tile]:
    """Cut the reports into tiles. On a CPU reports of like length share a tile, which is then only as wide as they are."""
    reports, capacity = mask.shape
    size = tile or max(1, TILE_ELEMENTS // max(1, images * num_patches * capacity))
    if mask.device.type != "cpu":  # the widths would have to be read from the device
        yield from (_Tile(slice(start, start + size), capacity) for start in range(0, reports, size))
        return
    widths = (mask * torch.arange(1, capacity + 1)).amax(dim=1)
    order = widths.argsort(stable=True)
    sorted_widths = widths[order].tolist()
    start = 0
    while start < reports:
        stop = min(start + size, reports)
        if tile is None:  # narrow reports leave room for more of them
            while stop < reports and (stop + 1 - start) * sorted_widths[stop] * images * num_patches <= TILE_ELEMENTS:
                stop += 1
        yield _Tile(order[start:stop], sorted_widths[stop - 1])
        start = stop


class _Forward(NamedTuple):
    """What a tile knows after its forward pass; entries are [T, S, b, N] or [T, S, b]."""

    similarity: Tensor
    shares: Tensor
    """u, or s itself without the first softmax."""
    attention: Tensor
    weighted: Tensor
    """'gram': G a, [b, R, N]. 'context': c, [b, R, C]."""
    context_square: Tensor
    unit_length: Tensor
    """|t|, [T, S, 1]."""
    cosine: Tensor
    """r, EXCLUDED at padded places."""


class _MatchingScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, units: Tensor, mask: Tensor, options: Matching) -> Tensor:
        patches, units = patches.contiguous(), units.contiguous()
        images, num_patches, channels = patches.shape
        form = options.form or cheaper_form(num_patches, channels)
        gram = patches @ patches.mT if form == "gram" else None
        scores = patches.new_empty(images, mask.shape[0])
        for tile in _tiles(mask, images=images, num_patches=num_patches, tile=options.tile):
            tile_units, tile_mask = units[tile.reports, : tile.width], mask[tile.reports, : tile.width]
            found = _tile_forward(patches, gram, tile_units, tile_mask, options)
            scores[:, tile.reports] = (options.temp2 * found.cosine).logsumexp(dim=1).T
        ctx.save_for_backward(patches, units, mask)
        ctx.options, ctx.form = options, form
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        patches, units, mask = ctx.saved_tensors
        options: Matching = ctx.options
        images, num_patches, channels = patches.shape
        gram = patches @ patches.mT if ctx.form == "gram" else None
        patch_gradient, unit_gradient = torch.zeros_like(patches), torch.zeros_like(units)
        gram_gradient = torch.zeros_like(gram) if gram is not None else None
        flat = patches.reshape(images * num_patches, channels)
        flat_gradient = patch_gradient.view(images * num_patches, channels)
        for tile in _tiles(mask, images=images, num_patches=num_patches, tile=options.tile):
            tile_units, tile_mask = units[tile.reports, : tile.width], mask[tile.reports, : tile.width]
            found = _tile_forward(patches, gram, tile_units, tile_mask, options)
            share = gradient[:, tile.reports].T.unsqueeze(1)
            cosine_gradient = options.temp2 * (options.temp2 * found.cosine).softmax(dim=1) * share
            # Padded places: the softmax is 0 there, so only the huge EXCLUDED itself must go.
            cosine = found.cosine.masked_fill(~tile_mask.unsqueeze(-1), 0.0)
            product = (found.context_square.sqrt() * found.unit_length).clamp(min=EPSILON)
            inner_gradient = cosine_gradient / product
            square_gradient = -0.5 * cosine_gradient * cosine / found.context_square
            attention = rearrange(found.attention, "t s b n -> b (t s) n")
            factor = rearrange(2 * square_gradient, "t s b -> b (t s) 1")
            if gram_gradient is not None:
                through_square = found.weighted.mul_(factor)
                gram_gradient.baddbmm_((factor * attention).mT, attention)
            else:
                context_gradient = found.weighted.mul_(factor)
                patch_gradient.baddbmm_(attention.mT, context_gradient)
                through_square = context_gradient @ patches.mT
            attention_gradient = rearrange(through_square, "b (t s) n -> t s b n", s=tile.width)
            attention_gradient = attention_gradient + inner_gradient.unsqueeze(-1) * found.similarity
            through = _attention_backward(found, attention_gradient, options)
            through.addcmul_(found.attention, inner_gradient.unsqueeze(-1))
            rows = rearrange(through, "t s b n -> (t s) (b n)")
            flat_gradient.addmm_(rows.T, rearrange(tile_units, "t s c -> (t s) c"))
            own = -(cosine_gradient * cosine).sum(dim=-1, keepdim=True) / found.unit_length.square()
            unit_gradient[tile.reports, : tile.width] = (rows @ flat).view_as(tile_units) + own * tile_units
        if gram_gradient is not None:
            # d(a G a) / dV through G = V V^T; the factor 2 of the square is in `factor`.
            patch_gradient.baddbmm_(gram_gradient, patches)
        return patch_gradient, unit_gradient, None, None


def _tile_forward(patches: Tensor, gram: Tensor | None, units: Tensor, mask: Tensor, options: Matching) -> _Forward:
    images, num_patches, channels = patches.shape
    reports, width, _ = units.shape
    similarity = (units.reshape(-1, channels) @ patches.reshape(-1, channels).T).view(
        reports, width, images, num_patches
    )
    shares = similarity
    if options.normalise_over == "units_then_patches":
        absent = rearrange(~mask, "t s -> t s 1 1")
        shares = similarity.masked_fill_(absent, EXCLUDED).softmax(dim=1)
        similarity.masked_fill_(absent, 0.0)
    attention = (options.temp1 * shares).softmax(dim=3)
    by_image = rearrange(attention, "t s b n -> b (t s) n")
    if gram is not None:
        weighted = by_image @ gram
        square = (weighted * by_image).sum(dim=-1)
    else:
        weighted = by_image @ patches
        square = weighted.square().sum(dim=-1)
    context_square = rearrange(square, "b (t s) -> t s b", s=width).clamp(min=EPSILON**2)
    norms = length(units).unsqueeze(-1)
    inner = (attention * similarity).sum(dim=-1)
    cosine = inner / (context_square.sqrt() * norms).clamp(min=EPSILON)
    return _Forward(
        similarity=similarity,
        shares=shares,
        attention=attention,
        weighted=weighted,
        context_square=context_square,
        unit_length=norms,
        cosine=cosine.masked_fill(~mask.unsqueeze(-1), EXCLUDED),
    )


def _attention_backward(found: _Forward, gradient: Tensor, options: Matching) -> Tensor:
    """Return the gradient of s through the attention."""
    gradient = _softmax_backward(gradient, found.attention, dim=3).mul_(options.temp1)
    if options.normalise_over == "units_then_patches":
        gradient = _softmax_backward(gradient, found.shares, dim=1)
    return gradient


def _softmax_backward(gradient: Tensor, output: Tensor, *, dim: int) -> Tensor:
    return torch._softmax_backward_data(gradient, output, dim, output.dtype)
