"""How fast ranks reach each other: the operations of training on a tensor of one size, and every link of the ring r -> r + 1.

Bandwidth is what a rank's link carries (the "bus bandwidth" of NCCL's tests), in 10^9 bytes per second: for S bytes in t
seconds, all_reduce 2 (W - 1) / W S / t, all_gather and reduce_scatter (W - 1) / W S / t, one link S / t.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from msvl.collectives.gather import all_gather, reduce_scatter
from msvl.collectives.strict import announce
from msvl.collectives.world import rank, world_size

SENT = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
"""Operation -> how often the tensor passes a link, but for the factor (W - 1) / W."""
ROUNDS = 5


@dataclass(frozen=True)
class Link:
    """From one rank to the next."""

    source: int
    target: int
    gb_per_second: float


def operation_bandwidths(nbytes: int, device: torch.device) -> dict[str, float]:
    """Collective. Return the bandwidth of each operation of SENT on `nbytes` bytes, of the slowest rank, median of rounds.

    Raises ArithmeticError when a result is not the right one.
    """
    world = world_size()
    rows = max(1, nbytes // (4 * world))
    whole, part = torch.ones(world * rows, device=device), torch.ones(rows, device=device)
    passes: dict[str, Callable[[], Tensor]] = {
        "all_reduce": lambda: _all_reduce(whole),
        "all_gather": lambda: all_gather(whole, part),
        "reduce_scatter": lambda: reduce_scatter(part, whole),
    }
    expected = {"all_reduce": world * (world + 1) / 2, "all_gather": 1.0, "reduce_scatter": world * (world + 1) / 2}
    found = {}
    for name, action in passes.items():
        seconds = _seconds(action, device)
        whole.fill_(rank() + 1.0)
        part.fill_(1.0)
        result = action()
        wrong = (result != expected[name]).nonzero().flatten()
        if wrong.numel():
            place = int(wrong[0])
            raise ArithmeticError(
                f"{name} on {world} ranks gives {result[place].item():g} instead of {expected[name]:g} in place {place}"
            )
        found[name] = SENT[name] * (world - 1) / world * whole.numel() * 4 / seconds / 1e9
        whole.fill_(0.0)
    return found


def latency_seconds(device: torch.device) -> float:
    """Collective. Return the time of an all_reduce of one number, of the slowest rank, median of rounds."""
    one = torch.ones(1, device=device)
    return _seconds(lambda: _all_reduce(one.fill_(1.0)), device, rounds=20)


def ring_links(nbytes: int, device: torch.device) -> list[Link]:
    """Collective. Return the bandwidth of each link of the ring, one after another with all others idle, the best of rounds."""
    world = world_size()
    tensor = torch.ones(max(1, nbytes // 4), device=device)
    if world == 1:
        return []
    found = []
    for source in range(world):
        target = (source + 1) % world
        seconds = min(_pass_on(tensor, source, target, device) for _ in range(1 + ROUNDS))
        found.append(Link(source, target, tensor.numel() * 4 / seconds / 1e9))
    return found


def _pass_on(tensor: Tensor, source: int, target: int, device: torch.device) -> float:
    """Collective. Return the seconds in which one rank sent the tensor to another, as the slower of the two saw it."""
    _wait(device)
    began = time.perf_counter()
    announce(f"send {source} to {target}", tensor)
    if rank() in (source, target):
        pass_on = dist.send if rank() == source else dist.recv
        pass_on(tensor, target if rank() == source else source)
    _finish(device)
    took = time.perf_counter() - began if rank() in (source, target) else 0.0
    return _slowest(took, device)


def _seconds(action: Callable[[], Tensor], device: torch.device, rounds: int = ROUNDS) -> float:
    action()
    found = []
    for _ in range(rounds):
        _wait(device)
        began = time.perf_counter()
        action()
        _finish(device)
        found.append(_slowest(time.perf_counter() - began, device))
    return statistics.median(found)


def _slowest(seconds: float, device: torch.device) -> float:
    value = torch.tensor([seconds], dtype=torch.float64, device=device)
    announce("all_reduce max", value)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return float(value.item())


def _wait(device: torch.device) -> None:
    """Collective. Begin together."""
    _all_reduce(torch.ones(1, device=device))
    _finish(device)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _all_reduce(tensor: Tensor) -> Tensor:
    announce("all_reduce sum", tensor)
    dist.all_reduce(tensor)
    return tensor
