"""Who this process is among the ranks. Without a process group: rank 0 of 1."""

from __future__ import annotations

import torch.distributed as dist


def is_distributed() -> bool:
    """Return whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """Return the number of ranks (1 without a process group)."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Return this process's rank (0 without a process group)."""
    return dist.get_rank() if is_distributed() else 0
