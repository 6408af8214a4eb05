"""Process groups: one for work that needs no engine (evaluation on several ranks), and the end of any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from msvl.collectives.agree import barrier
from msvl.collectives.world import is_distributed, world_size


@contextmanager
def process_group(world: int, *, timeout_minutes: float) -> Iterator[None]:
    """Collective where there are several ranks. Start a gloo group from the environment and end it; one rank needs none.

    Args:
        world: Number of ranks.
        timeout_minutes: A rank that waits longer for the others ends.
    """
    if world == 1 or is_distributed():
        yield
        return
    dist.init_process_group("gloo", timeout=timedelta(minutes=timeout_minutes))
    try:
        yield
    finally:
        dist.destroy_process_group()


def leave_together() -> None:
    """Collective. End the process group when all ranks are here; one rank just leaves.

    gloo's threads abort a process that leaves while another rank still talks to it.
    """
    if world_size() > 1:
        barrier()
        dist.destroy_process_group()
