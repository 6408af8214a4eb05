"""The counter against cases counted by hand."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.live_memory import LiveMemory


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storages_count_while_something_holds_them(device: str) -> None:
    with LiveMemory() as memory:
        first = torch.empty(10, device=device)
        second = first + 1
        assert (memory.now, memory.peak) == (80, 80)
        del first
        assert (memory.now, memory.peak) == (40, 80)
        view, same = second[2:].view(4, 2), second.add_(1)
        assert (memory.now, memory.peak) == (40, 80)
        del second, same
        assert memory.now == 40  # the view holds all of it
        del view
        assert memory.now == 0


def test_what_stood_before_does_not_count() -> None:
    before = torch.ones(100)
    with LiveMemory() as memory:
        view = before[:50]
        before.mul_(2)
        torch.mul(before, 2, out=before)
        assert (memory.now, memory.peak) == (0, 0)
        total = view.sum()
        assert memory.peak == 4
    assert total == 200


def test_what_autograd_keeps_for_the_backward_pass_counts() -> None:
    leaf = torch.ones(10, device="meta", requires_grad=True)
    with LiveMemory() as memory:
        loss = leaf.exp().sum()  # keeps the exponential
        assert memory.now == 40 + 4
        loss.backward()
        del loss
        assert memory.now == 40  # the gradient
        assert memory.peak <= 40 + 4 + 4 + 80


def test_in_a_function_of_our_own_the_backward_pass_counts_too() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, value: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(value)  # type: ignore[attr-defined]
            return value.square().sum()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            (value,) = ctx.saved_tensors  # type: ignore[attr-defined]
            large = torch.empty(1000, device=value.device)
            return 2 * value * gradient + large.sum() * 0

    leaf = torch.ones(10, device="meta", requires_grad=True)
    with LiveMemory() as memory:
        Square.apply(leaf).backward()
    assert 4000 < memory.peak < 4000 + 300
