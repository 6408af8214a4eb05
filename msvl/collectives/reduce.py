"""Sums, means and maxima over ranks, of tensors of any one shape; none carries a gradient from one rank to another."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from msvl.collectives.strict import announce
from msvl.collectives.world import is_distributed, world_size


def total(local: Tensor) -> Tensor:
    """Collective. Sum over ranks, without gradient."""
    value = local.detach().clone()
    if is_distributed():
        announce("all_reduce sum", value)
        dist.all_reduce(value)
    return value


def ratio_of_totals(local_sum: Tensor, local_count: Tensor) -> Tensor:
    """Collective. Return W * local sum / global count, scalars, whose mean over ranks is global sum / global count.

    This is how a mean over things that ranks hold unequal numbers of (masked tokens, admissible pairs) stays the mean
    of the global batch. The gradient goes through `local_sum`; where nothing at all is counted the result is 0.
    """
    return world_size() * local_sum / total(local_count).clamp(min=1)


def mean(local: Tensor) -> Tensor:
    """Collective. Mean over ranks, without gradient."""
    return total(local) / world_size()


def maximum(local: Tensor) -> Tensor:
    """Collective. Elementwise maximum over ranks, without gradient."""
    value = local.detach().clone()
    if is_distributed():
        announce("all_reduce max", value)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def mean_of(values: dict[str, Tensor]) -> dict[str, float]:
    """Collective. Mean over ranks of named scalars in one message; every rank passes the same names."""
    names = sorted(values)
    stacked = mean(torch.stack([values[name].detach().float().reshape(()) for name in names]))
    return dict(zip(names, stacked.tolist(), strict=True))
