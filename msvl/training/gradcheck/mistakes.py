"""Popular mistakes in distributed contrastive losses, to be run and not only quoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from msvl.collectives.gather import gather, gather_constant
from msvl.collectives.world import rank, world_size


def _detached(local: Tensor) -> Tensor:
    """open_clip's gather without `gather_with_grad`: only the own block has a gradient."""
    found = gather_constant(local.detach())
    size = len(local)
    return torch.cat([found[: rank() * size], local, found[(rank() + 1) * size :]])


class _Averaged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gathered: Tensor) -> Tensor:
        return gathered.view_as(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient / world_size()


def _unscaled(local: Tensor) -> Tensor:
    """DisCo-CLIP's README: the gather's backward averages over ranks, and DDP averages once more."""
    averaged: Tensor = _Averaged.apply(gather(local))
    return averaged


@contextmanager
def mistake(name: str | None) -> Iterator[None]:
    """Make one of MISTAKES while the context is open; None makes none."""
    with ExitStack() as stack:
        for patch in MISTAKES[name]() if name else ():
            stack.enter_context(patch)
        yield


def _gather_by(function: Callable[[Tensor], Tensor]) -> list[Any]:
    return [mock.patch("msvl.objectives.gathering.gather", function)]


def _rank_local() -> list[Any]:
    """Every rank contrasts its own pairs only, as ALBEF does without its queues."""
    return [
        mock.patch("msvl.collectives.gather.is_distributed", lambda: False),
        mock.patch("msvl.collectives.reduce.is_distributed", lambda: False),
        mock.patch("msvl.collectives.reduce.world_size", lambda: 1),
        mock.patch("msvl.objectives.gathering.rank", lambda: 0),
    ]


MISTAKES: dict[str, Callable[[], list[Any]]] = {
    "detached-gather": lambda: _gather_by(_detached),
    "rank-local-negatives": _rank_local,
    "unscaled": lambda: _gather_by(_unscaled),
}
"""Name -> the patches that make it."""
