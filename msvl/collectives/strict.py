"""Strict collectives: every rank says what it is about to do, and all stop where they would not do the same.

gloo tolerates things that NCCL does not (a tensor that is not contiguous) and the other way round; where ranks differ in
order or shape, both hang or mix memory. With the check on, the call itself fails and names both call sites.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from msvl.collectives.world import is_distributed, rank, world_size
from msvl.config.errors import ClusterError


@dataclass(frozen=True)
class Call:
    """What one rank is about to do."""

    operation: str
    shape: tuple[int, ...]
    dtype: str
    site: str
    """File, line and function outside this package."""
    nbytes: int = 0
    """Of the tensor that this rank passes."""

    def words(self) -> str:
        """Say it."""
        return f"{self.operation} of {self.dtype} {list(self.shape)} at {self.site}"

    def sent(self, world: int) -> float:
        """Return the bytes that this rank sends over the network, with algorithms that send the least (rings).

        Of n bytes passed: all_gather n (W - 1), reduce_scatter and all_to_all n (W - 1) / W, all_reduce 2 n (W - 1) / W.
        """
        share = {"all_gather": world, "reduce_scatter": 1, "all_to_all": 1, "all_reduce": 2}
        return share[self.operation.partition(" ")[0]] * self.nbytes * (world - 1) / world

    def agrees(self, other: Call) -> bool:
        """Whether both are the same collective.

        Tensors must come from the same line too: two of one shape in another order would be mixed without a word. Objects
        need not: where rank 0 tells the others something, the others listen on a line of their own.
        """
        same = (self.operation, self.shape, self.dtype) == (other.operation, other.shape, other.dtype)
        return same and (self.dtype == "object" or self.site == other.site)


class _Recorder:
    def __init__(self) -> None:
        self.checking = False
        self.checked = 0
        self.calls: list[Call] | None = None
        self.listener: Callable[[str, str], None] | None = None


_RECORDER = _Recorder()


def check_collectives(on: bool) -> None:
    """Turn the check on or off in this process; every rank must do the same."""
    _RECORDER.checking = on
    _RECORDER.checked = 0


def checked() -> int:
    """Return how many collectives were compared since the check was turned on."""
    return _RECORDER.checked


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Yield the list of this rank's calls inside the block; recording says no word to other ranks."""
    before, _RECORDER.calls = _RECORDER.calls, []
    try:
        yield _RECORDER.calls
    finally:
        _RECORDER.calls = before


def tell(listener: Callable[[str, str], None] | None) -> None:
    """Call `listener(operation, call site)` in this process before every collective from now on; None ends it."""
    _RECORDER.listener = listener


def announce(operation: str, tensor: Tensor | None = None) -> None:
    """Collective when the check is on. To be called right before a collective of the process group.

    Raises ClusterError when the tensor is not contiguous or lies on a device that the backend does not serve, or when
    another rank is about to do something else.
    """
    if not is_distributed():
        return
    recorder = _RECORDER
    if recorder.listener is None and recorder.calls is None and not recorder.checking:
        return
    call = Call(
        operation=operation,
        shape=tuple(tensor.shape) if tensor is not None else (),
        dtype=str(tensor.dtype).removeprefix("torch.") if tensor is not None else "object",
        site=_site(),
        nbytes=tensor.numel() * tensor.element_size() if tensor is not None else 0,
    )
    if recorder.listener is not None:  # before the check: where this rank waits in it, the collective is known already
        recorder.listener(operation, call.site)
    if recorder.calls is not None:
        recorder.calls.append(call)
    if recorder.checking:
        recorder.checked += 1
        _compare(call, tensor, number=recorder.checked)


def _compare(call: Call, tensor: Tensor | None, *, number: int) -> None:
    """Collective. Raise ClusterError unless all ranks are about to make the same call, with tensors that can be sent."""
    fault = _fault(tensor)
    answers: list[tuple[Call, str | None]] = [(call, fault)] * world_size()
    dist.all_gather_object(answers, (call, fault))
    for other, (theirs, their_fault) in enumerate(answers):
        if their_fault:
            raise ClusterError(f"collective {number}: rank {other}, {theirs.words()}: {their_fault}")
        if not call.agrees(theirs):
            raise ClusterError(
                f"collective {number} differs between ranks: rank {rank()} calls {call.words()}, "
                f"rank {other} calls {theirs.words()}"
            )


def _fault(tensor: Tensor | None) -> str | None:
    if tensor is None:
        return None
    if not tensor.is_contiguous():
        return "the tensor is not contiguous; call .contiguous() first"
    wanted = "cuda" if "nccl" in dist.get_backend() else "cpu"
    if tensor.device.type != wanted:
        return f"the tensor lies on {tensor.device}, the process group serves {wanted}"
    return None


_FOREIGN = (os.path.dirname(os.path.abspath(__file__)), os.path.dirname(torch.__file__))
"""Where a call site is not looked for."""


def _site() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_FOREIGN):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} ({frame.f_code.co_name})"
