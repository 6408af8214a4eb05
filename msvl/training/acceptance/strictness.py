"""Does the strict check of collectives bite here: differences that ranks are made to have, each of which it must refuse."""

from __future__ import annotations

from collections.abc import Callable

import torch

from msvl.collectives.agree import all_objects
from msvl.collectives.gather import gather, gather_constant
from msvl.collectives.reduce import total
from msvl.collectives.world import rank, world_size
from msvl.config.errors import ClusterError


def missed_differences(device: torch.device) -> list[str]:
    """Collective, with the check on. Return the differences that some rank did not refuse; none on a single rank.

    Refused calls move nothing: the check fails before the collective itself.
    """
    if world_size() == 1:
        return []
    last = rank() == world_size() - 1
    local = torch.ones(2, 3, device=device)
    planted: dict[str, Callable[[], object]] = {
        "shape": lambda: gather(local[:1] if last else local),
        "dtype": lambda: gather_constant(local.double() if last else local),
        "order": lambda: total(local) if last else gather(local),
        "memory layout": lambda: total(torch.ones(3, 2, device=device).T if last else local),
    }
    refused = [name for name, call in planted.items() if _is_refused(call)]
    return [name for name in planted if not all(name in one for one in all_objects(refused))]


def _is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except ClusterError:
        return True
    return False
