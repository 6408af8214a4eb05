"""Which numbers of ranks fit the lanes: a lane must not be read by more than two ranks.

Rank r of W takes positions q = r mod W and lane s those with q = s mod S, so W / gcd(W, S) ranks share a lane.
"""

from __future__ import annotations

from math import gcd

from msvl.config.errors import ClusterError

MAX_READERS = 2
"""Ranks that may read the same lane: its bytes are then read so many times per epoch over the cluster."""


def readers(world: int, lanes: int) -> int:
    """Return how many ranks read each lane."""
    return world // gcd(world, lanes)


def check_world(world: int, *, global_batch: int, lanes: int) -> None:
    """Raise ClusterError when a number of ranks that divides the global batch would read lanes more than twice.

    Names the nearest numbers of ranks and of lanes that fit.
    """
    if readers(world, lanes) <= MAX_READERS:
        return
    ranks = [
        count
        for count in range(1, global_batch + 1)
        if global_batch % count == 0 and readers(count, lanes) <= MAX_READERS
    ]
    fitting = [count for count in range(1, lanes + world + 1) if readers(world, count) <= MAX_READERS]
    raise ClusterError(
        f"{world} ranks do not fit data.lanes={lanes}: {readers(world, lanes)} of them would read the same lane, and at most "
        f"{MAX_READERS} may. Use {_nearest(ranks, world)} ranks, or begin a new run with data.lanes="
        f"{_nearest(fitting, lanes)}"
    )


def _nearest(values: list[int], wanted: int) -> str:
    lower = [value for value in values if value < wanted][-1:]
    upper = [value for value in values if value > wanted][:1]
    return " or ".join(map(str, lower + upper))
