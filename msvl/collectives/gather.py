"""The one all-gather with gradient.

Convention of the whole project: a loss on rank r is a local value whose mean over ranks is the global loss; DDP and ZeRO
average gradients over ranks; the backward of the gather SUMS what all ranks ask of a tensor. Together these give every
parameter exactly the gradient that one process computes on the global batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from msvl.collectives.world import is_distributed, rank, world_size


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        local = local.contiguous()
        out = local.new_empty((world_size() * local.shape[0], *local.shape[1:]))
        dist.all_gather_into_tensor(out, local)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        rows = gradient.shape[0] // world_size()
        if dist.get_backend() == "gloo":
            # gloo has no native reduce-scatter; its all-reduce sums in the same order on every rank.
            dist.all_reduce(gradient)
            return gradient[rank() * rows : (rank() + 1) * rows].clone()
        out = gradient.new_empty((rows, *gradient.shape[1:]))
        dist.reduce_scatter_tensor(out, gradient)
        return out


def gather(local: Tensor) -> Tensor:
    """Collective. Concatenate a tensor of equal shape from all ranks along dimension 0, rank by rank, with gradient.

    Args:
        local: [b, ...] floating point.

    Returns:
        [W * b, ...]; rows r * b ... (r + 1) * b - 1 are rank r's. The gradient sums what all ranks ask of each row.
    """
    return _Gather.apply(local) if is_distributed() else local


def gather_constant(local: Tensor) -> Tensor:
    """Collective. As `gather`, for tensors that carry no gradient (ids, masks): any dtype that the backend moves."""
    if not is_distributed():
        return local
    as_bytes = local.dtype == torch.bool
    moved = (local.to(torch.uint8) if as_bytes else local).detach().contiguous()
    out = moved.new_empty((world_size() * moved.shape[0], *moved.shape[1:]))
    dist.all_gather_into_tensor(out, moved)
    return out.bool() if as_bytes else out
