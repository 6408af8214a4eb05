"""Decisions that all ranks take together, so that no rank goes where the others do not."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from msvl.collectives.strict import announce
from msvl.collectives.world import is_distributed, world_size


def any_rank(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Collective. Return whether any rank says yes."""
    if not is_distributed():
        return flag
    votes = torch.tensor([int(flag)], device=device)
    announce("all_reduce max", votes)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def first_message(message: str | None) -> str | None:
    """Collective. Return the lowest rank's message, with its rank unless all say the same; None when no rank has one."""
    messages = all_objects(message)
    for number, text in enumerate(messages):
        if text is not None:
            return text if len(set(messages)) == 1 else f"rank {number}: {text}"
    return None


def all_objects(value: Any) -> list[Any]:
    """Collective. Return every rank's small Python value, in rank order."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    announce("all_gather_object")
    dist.all_gather_object(values, value)
    return values


def from_rank_zero(value: Any) -> Any:
    """Collective. Return rank 0's small Python value on every rank."""
    if not is_distributed():
        return value
    box = [value]
    announce("broadcast_object")
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Collective. Wait until every rank is here."""
    if is_distributed():
        announce("barrier")
        dist.barrier()
