"""One tile of the matching function, forward and backward, in two forms of |c|^2 (symbols: `local_alignment.py`).

Both backward passes use that r does not change when a row of the attention is scaled: sum_j a_nj dr_n/da_nj = 0, so the
softmax over patches passes the gradient a * dr/da back and needs no sum.

I images of a block, T reports, W unit places, R = T W, N patches, C channels. Tensors named here live in the workspace: the
next tile overwrites them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from msvl.objectives.contrastive import EXCLUDED
from msvl.objectives.local_tiles import EPSILON, Tile
from msvl.objectives.workspace import Workspace

Form = Literal["context", "gram"]
NormaliseOver = Literal["units_then_patches", "patches"]


@dataclass(frozen=True)
class Matching:
    """The temperatures, and how the work is cut."""

    temp1: float
    temp2: float
    normalise_over: NormaliseOver = "units_then_patches"
    tile: int | None = None
    """Reports per tile; None chooses by memory."""
    form: Form | None = None
    """None chooses the cheaper one."""

    @property
    def over_units_first(self) -> bool:
        """Return whether shares of the units come before the attention."""
        return self.normalise_over == "units_then_patches"


class Images(NamedTuple):
    """A block of images."""

    patches: Tensor
    """[I, N, C]."""
    gram: Tensor | None
    """[I, N, N], for the form of that name."""


class Found(NamedTuple):
    """What a tile knows after its forward pass."""

    similarity: Tensor
    """[I, R, N]. 'gram': a s, place by place. 'context': scratch, s is needed no more."""
    shares: Tensor
    """u, [I, R, N]; s itself without the first softmax."""
    attention: Tensor
    """[I, R, N]."""
    weighted: Tensor
    """'gram': a (a G), place by place, [I, R, N]. 'context': c, [I, R, C]."""
    context_square: Tensor
    """[I, T, W]."""
    cosine: Tensor
    """r, [I, T, W]; of no meaning at padded places."""

    def scores(self, tile: Tile, options: Matching) -> Tensor:
        """Return Z, [I, T]."""
        return self.unit_logits(tile, options).logsumexp(dim=2)

    def unit_logits(self, tile: Tile, options: Matching) -> Tensor:
        """Return temp2 r, [I, T, W], EXCLUDED at padded places."""
        return (options.temp2 * self.cosine).masked_fill_(~tile.mask, EXCLUDED)


class Slopes(NamedTuple):
    """dL/dr brought to where r comes from; each [I, T, W], 0 at padded places."""

    inner: Tensor
    """dL / d<c, t>."""
    square: Tensor
    """2 dL / d|c|^2."""
    norm: Tensor
    """r dL/dr = -|t| dL / d|t|."""


def as_column(slope: Tensor) -> Tensor:
    """Return one of the slopes, [I, T, W], as [I, R, 1]."""
    return slope.reshape(len(slope), -1, 1)


def forward(images: Images, tile: Tile, options: Matching, workspace: Workspace) -> Found:
    """Return similarities, attention and cosines of a tile (equations: `local_alignment.py`)."""
    (count, num_patches, channels), (reports, width) = images.patches.shape, tile.mask.shape
    rows, by_unit = (count, reports * width, num_patches), (count, reports, width, num_patches)
    similarity, attention = workspace.take("similarity", *rows), workspace.take("attention", *rows)
    units = tile.units.view(1, reports * width, channels).expand(count, -1, -1)
    shares = torch.bmm(units, images.patches.mT, out=similarity)
    if options.over_units_first:
        if not tile.complete:
            similarity.view(by_unit).masked_fill_(~tile.mask.unsqueeze(-1), EXCLUDED)
        shares = workspace.take("shares", *rows)
        torch.softmax(similarity.view(by_unit), dim=2, out=shares.view(by_unit))
    logits = similarity if images.gram is None else workspace.take("product", *rows)
    torch.softmax(torch.mul(shares, options.temp1, out=logits), dim=2, out=attention)
    if images.gram is not None:
        weighted = torch.bmm(attention, images.gram, out=workspace.take("weighted", *rows))
        square = weighted.mul_(attention).sum(dim=2)
        inner = similarity.mul_(attention).sum(dim=2)
    else:
        places = (count, reports * width, channels)
        weighted = torch.bmm(attention, images.patches, out=workspace.take("weighted", *places))
        product = workspace.take("product", *places)
        square = torch.mul(weighted, weighted, out=product).sum(dim=2)
        inner = torch.mul(weighted, units, out=product).sum(dim=2)
    square = square.clamp_(min=EPSILON**2).view(count, reports, width)
    cosine = inner.view(count, reports, width) / (square.sqrt() * tile.norms).clamp_(min=EPSILON)
    return Found(similarity, shares, attention, weighted, square, cosine)


def slopes(found: Found, tile: Tile, gradient: Tensor, options: Matching) -> Slopes:
    """Return what `gradient`, dL/dZ [I, T], means for the parts of r: dL/dr_n = dL/dZ temp2 softmax_n(temp2 r)."""
    by_cosine = found.unit_logits(tile, options).softmax(dim=2).mul_(options.temp2).mul_(gradient.unsqueeze(-1))
    norm = by_cosine * found.cosine
    product = (found.context_square.sqrt() * tile.norms).clamp_(min=EPSILON)
    return Slopes(inner=by_cosine / product, square=-norm / found.context_square, norm=norm)


def backward_of_gram(
    found: Found, slope: Slopes, gram_gradient: Tensor, options: Matching, workspace: Workspace
) -> Tensor:
    """Return dL/ds [I, R, N]; add 2 dL/dG to `gram_gradient` [I, N, N], which times V is what G hands on to the patches."""
    attention, inner, square = found.attention, as_column(slope.inner), as_column(slope.square)
    product = torch.mul(attention, square, out=workspace.take("product", *attention.shape))
    # Twice dL/dG = dL/d|c|^2 a a^T, for both patches in G = V V^T; `square` has the 2.
    gram_gradient.baddbmm_(product.mT, attention)
    through = found.weighted.mul_(square * options.temp1).addcmul_(found.similarity, inner * options.temp1)
    through = _through_shares(through, found, options, out=product)
    return through.addcmul_(attention, inner)


def backward_of_context(
    found: Found, slope: Slopes, units: Tensor, patches: Tensor, options: Matching, workspace: Workspace
) -> tuple[Tensor, Tensor]:
    """Return the part of dL/ds [I, R, N] that goes through the attention, and dL/dc [I, R, C] for what goes through c.

    Args:
        found: Of the forward pass; its similarity is overwritten.
        slope: Of r.
        units: [I, R, C].
        patches: [I, N, C].
        options: Temperatures.
        workspace: Where "product" becomes dL/dc.
    """
    by_context = workspace.take("product", *found.weighted.shape)
    torch.mul(found.weighted, as_column(slope.square), out=by_context).addcmul_(units, as_column(slope.inner))
    through = torch.baddbmm(found.similarity, by_context, patches.mT, beta=0, alpha=options.temp1, out=found.similarity)
    return _through_shares(through.mul_(found.attention), found, options, out=through), by_context


def _through_shares(gradient: Tensor, found: Found, options: Matching, *, out: Tensor) -> Tensor:
    """Return the gradient of s from that of u, in `out` where there is a softmax between them."""
    if not options.over_units_first:
        return gradient
    by_unit = found.context_square.shape + gradient.shape[2:]
    gradient, shares = gradient.view(by_unit), found.shares.view(by_unit)
    torch._softmax_backward_data(gradient, shares, 2, shares.dtype, grad_input=out.view(by_unit))
    return out
