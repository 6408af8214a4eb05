"""Memory that blocks of work share."""

from __future__ import annotations

from math import prod

from torch import Tensor


class Workspace:
    """Named tensors that one block after the other uses: fresh ones for each block would be paid in page faults."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor with undefined content; it stands where the one of the same name stood before."""
        count, held = prod(shape), self._held.get(name)
        if held is None or held.numel() < count:
            held = self._held[name] = self._like.new_empty(count)
        return held[:count].view(shape)
