"""One optimizer step from k micro-batches per rank.

'cached' (gradient caching, Gao et al. 2021) gives the gradients of the whole batch: embeddings of all micro-batches first,
without graph; then the losses on all of them, whose gradients with respect to the embeddings are kept; then each
micro-batch once more, with graph, pulled by those gradients. The first micro-batch is embedded only once, inside the
losses. 'plain' averages the losses of the micro-batches, each contrasted with itself alone: another objective.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from msvl.data.batch import Batch
from msvl.objectives.parts import differentiable, with_differentiable

Kind = Literal["cached", "plain"]


@dataclass(frozen=True)
class _Waiting:
    """A micro-batch that was embedded without a graph."""

    batch: Batch
    leaves: dict[str, Tensor]
    """Its embeddings; they take the gradients of the losses."""
    random_state: tuple[Tensor, Tensor | None]
    """Before it was embedded, so that dropout draws the same again."""


class Accumulation:
    """Runs the micro-batches of a step through a DeepSpeed engine."""

    def __init__(self, engine: Any, *, parts: int, kind: Kind) -> None:
        self._engine = engine
        self._parts = parts
        self._kind = kind
        self._waiting: list[_Waiting] = []
        self._loss: Tensor | None = None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Collective. Return the losses of this rank's share; their graph waits for `backward`."""
        if self._parts == 1:
            losses = self._engine(batch)
            self._loss = losses["total"]
        elif self._kind == "cached":
            losses = self._cached(batch)
        else:
            losses = self._plain(batch)
        return {name: value.detach() for name, value in losses.items()}

    def backward(self) -> None:
        """Collective. Leave the averaged gradients of the step in the engine, one call of its step short."""
        assert self._loss is not None
        self._pull(self._loss)
        for part in self._waiting:
            self._engine.step()  # counts the micro-batch; only the last one updates
            gradients = {name: leaf.grad for name, leaf in part.leaves.items() if leaf.grad is not None}
            with _replayed(part.random_state):
                product = self._engine(part.batch, gradients=gradients)["total"]
            self._pull(product)
        self.forget()

    def forget(self) -> None:
        """Drop the graph of a forward pass that is not followed by `backward`."""
        self._waiting, self._loss = [], None

    def _pull(self, loss: Tensor) -> None:
        # Without ZeRO, DeepSpeed 0.19 divides a loss that came straight out of its forward by the number of micro-batches
        # all the same; of a tensor made of it, it does not.
        self._engine.backward(1 * loss, scale_wrt_gas=False)

    def _cached(self, batch: Batch) -> dict[str, Tensor]:
        first, *rest = batch.split(self._parts)
        others, self._waiting = [], []
        for part in rest:
            state = _random_state()
            with torch.no_grad():
                embeddings = self._engine(part, embed_only=True)
            leaves = {name: value.detach().requires_grad_() for name, value in differentiable(embeddings).items()}
            self._waiting.append(_Waiting(batch=part, leaves=leaves, random_state=state))
            others.append(with_differentiable(embeddings, leaves))
        losses: dict[str, Tensor] = self._engine(first, others=others, ids=batch.ids)
        self._loss = losses["total"]
        return losses

    def _plain(self, batch: Batch) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []
        for number, part in enumerate(batch.split(self._parts)):
            losses = self._engine(part)
            self._loss = losses["total"] / self._parts
            found.append({name: value.detach() for name, value in losses.items()})
            if number < self._parts - 1:
                self._pull(self._loss)
                self._engine.step()
        return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}


def _random_state() -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


@contextmanager
def _replayed(state: tuple[Tensor, Tensor | None]) -> Iterator[None]:
    """Draw random numbers from a state, and go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1])
        yield
