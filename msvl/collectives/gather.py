"""The one all-gather with gradient, and the exchange of blocks between all ranks.

Convention of the whole project: a loss on rank r is a local value whose mean over ranks is the global loss; DDP and
ZeRO average gradients over ranks; the backward of the gather SUMS what all ranks ask of a tensor. Together these give
every parameter exactly the gradient that one process computes on the global batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from msvl.collectives.strict import announce
from msvl.collectives.world import is_distributed, world_size


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return _all_gather(local.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        return reduce_scatter(gradient.new_empty((gradient.shape[0] // world_size(), *gradient.shape[1:])), gradient)


def _all_gather(local: Tensor) -> Tensor:
    return all_gather(local.new_empty((world_size() * local.shape[0], *local.shape[1:])), local)


def all_gather(out: Tensor, local: Tensor) -> Tensor:
    """Collective. Return `out` [W * b, ...], filled with `local` [b, ...] of all ranks; both contiguous, no gradient."""
    # torch 2.13 gave this and the next one new names and warns of the old ones.
    operation = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    announce("all_gather", local)
    operation(out, local)
    return out


def reduce_scatter(out: Tensor, whole: Tensor) -> Tensor:
    """Collective. Return `out` [b, ...]: the sum over ranks of this rank's rows of `whole` [W * b, ...]; both contiguous."""
    # Gloo has it as well (since torch 2.8, any number of ranks).
    operation = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    announce("reduce_scatter", whole)
    operation(out, whole)
    return out


def gather(local: Tensor) -> Tensor:
    """Collective. Concatenate a tensor of equal shape from all ranks along dimension 0, rank by rank, with gradient.

    Args:
        local: [b, ...] floating point.

    Returns:
        [W * b, ...]; rows r * b ... (r + 1) * b - 1 are rank r's. The gradient sums what all ranks ask of each row.
    """
    return _Gather.apply(local) if is_distributed() else local


class _Exchange(torch.autograd.Function):
    """Its own adjoint: what came from rank r goes back to rank r."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return _all_to_all(local.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _all_to_all(gradient.contiguous())


def _all_to_all(local: Tensor) -> Tensor:
    out = torch.empty_like(local)
    announce("all_to_all", local)
    dist.all_to_all_single(out, local)
    return out


def exchange(local: Tensor) -> Tensor:
    """Collective. Send block r of dimension 0 to rank r and return what all ranks sent here, with gradient.

    Args:
        local: [W * b, ...] floating point; rows r * b ... (r + 1) * b - 1 are for rank r.

    Returns:
        [W, b, ...]: row r came from rank r.
    """
    if not is_distributed():
        return local.unsqueeze(0)
    received: Tensor = _Exchange.apply(local)
    return received.view(world_size(), -1, *local.shape[1:])


def gather_constant(local: Tensor) -> Tensor:
    """Collective. As `gather`, for tensors that carry no gradient (ids, masks): any dtype that the backend moves."""
    if not is_distributed():
        return local
    as_bytes = local.dtype == torch.bool
    out = _all_gather((local.to(torch.uint8) if as_bytes else local).detach().contiguous())
    return out.bool() if as_bytes else out
