"""GLoRIA's matching function for all pairs of images and reports, tile by tile, with its own backward pass.

For report k with units (sentences or words) t_n and image i with patches v_j:
s_nj = <t_n, v_j>; u = softmax over the units of s, for every patch; a = softmax over the patches of temp1 u;
c_n = sum_j a_nj v_j; r_n = <c_n, t_n> / (|c_n| |t_n|); Z = log sum_n exp(temp2 r_n).

The published loop keeps every c_n of every pair. Two forms give the same: 'context' forms the c_n of a tile (N C
multiplications per pair and unit); 'gram' never does, with <c_n, t_n> = sum_j a_nj s_nj and |c_n|^2 = a^T (V V^T) a (N^2).
Nothing of a tile survives it but its scores Z: the backward pass computes s and a again.

b own images, G all reports, N patches, S unit capacity, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msvl.objectives.local_forms import (
    Form,
    Images,
    Matching,
    NormaliseOver,
    as_column,
    backward_of_context,
    backward_of_gram,
    forward,
    slopes,
)
from msvl.objectives.local_tiles import cut_reports, image_blocks, length
from msvl.objectives.workspace import Workspace


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


class _MatchingScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, units: Tensor, mask: Tensor, options: Matching) -> Tensor:
        patches = patches.contiguous()
        scores = patches.new_empty(len(patches), len(mask))
        workspace = Workspace(patches)
        tiles = cut_reports(units, mask, num_patches=patches.shape[1], reports=options.tile)
        for block in image_blocks(len(patches), tiles, num_patches=patches.shape[1]):
            images = _images(patches[block], options)
            for tile in tiles:
                scores[block, tile.reports] = forward(images, tile, options, workspace).scores(tile, options)
        ctx.save_for_backward(patches, units, mask)
        ctx.options = options
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        patches, units, mask = ctx.saved_tensors
        options: Matching = ctx.options
        workspace = Workspace(patches)
        tiles = cut_reports(units, mask, num_patches=patches.shape[1], reports=options.tile)
        patch_gradient, unit_gradient = torch.empty_like(patches), torch.zeros_like(units)
        tile_gradients = [torch.zeros_like(tile.units) for tile in tiles]
        norm_gradients = [torch.zeros_like(tile.norms) for tile in tiles]
        for block in image_blocks(len(patches), tiles, num_patches=patches.shape[1]):
            images, own = _images(patches[block], options), patch_gradient[block]
            gram_gradient = None if images.gram is None else torch.zeros_like(images.gram)
            for tile, tile_gradient, norm_gradient in zip(tiles, tile_gradients, norm_gradients, strict=True):
                kept = 0 if tile is tiles[0] else 1  # the first tile of an image writes, the others add
                rows = tile.units.view(1, -1, units.shape[2]).expand(len(own), -1, -1)
                found = forward(images, tile, options, workspace)
                slope = slopes(found, tile, gradient[block, tile.reports], options)
                norm_gradient += slope.norm.sum(dim=0)
                flat_gradient = tile_gradient.view(rows.shape[1:])
                if gram_gradient is not None:
                    through = backward_of_gram(found, slope, gram_gradient, options, workspace)
                else:
                    for contexts, inner in zip(found.weighted, as_column(slope.inner), strict=True):
                        flat_gradient.addcmul_(contexts, inner)
                    through, by_context = backward_of_context(found, slope, rows, images.patches, options, workspace)
                    own.baddbmm_(found.attention.mT, by_context, beta=kept)
                    kept = 1
                own.baddbmm_(through.mT, rows, beta=kept)
                flat_gradient.addbmm_(through, images.patches)
            if gram_gradient is not None:
                own.baddbmm_(gram_gradient, images.patches)
        for tile, tile_gradient, norm_gradient in zip(tiles, tile_gradients, norm_gradients, strict=True):
            tile_gradient.addcmul_((norm_gradient / tile.norms.square()).unsqueeze(-1), tile.units, value=-1)
            unit_gradient[tile.reports, : tile.width] = tile_gradient
        return patch_gradient, unit_gradient, None, None


def _images(patches: Tensor, options: Matching) -> Images:
    form = options.form or cheaper_form(*patches.shape[1:])
    return Images(patches=patches, gram=patches @ patches.mT if form == "gram" else None)
