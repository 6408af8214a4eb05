"""The gather with gradient, on real gloo processes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from msvl.collectives.gather import gather, gather_constant
from msvl.collectives.world import rank, world_size
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.ranks
ROWS = 3


def _gathered(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what was gathered, and the gradient of sum over ranks r of (r + 1) * sum(weight * gathered)."""
    local = (torch.arange(ROWS * 2.0).reshape(ROWS, 2) + 100 * rank()).to(dtype).requires_grad_()
    gathered = gather(local)
    weight = torch.arange(float(gathered.numel())).reshape(gathered.shape).to(dtype)
    ((rank() + 1) * weight * gathered).sum().backward()
    return gathered.detach(), local.grad


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_rows_stand_rank_by_rank_and_the_gradient_sums_over_ranks(world: int, dtype: torch.dtype) -> None:
    for number, (gathered, gradient) in enumerate(run_ranks(world, _gathered, dtype)):
        rows = [torch.arange(ROWS * 2.0).reshape(ROWS, 2) + 100 * r for r in range(world)]
        assert torch.equal(gathered, torch.cat(rows).to(dtype))
        weight = torch.arange(float(world * ROWS * 2)).reshape(-1, 2)[number * ROWS : (number + 1) * ROWS]
        assert gradient.dtype == dtype
        assert torch.allclose(
            gradient.float(), world * (world + 1) / 2 * weight, rtol=1e-2 if dtype.itemsize == 2 else 0
        )


def _shared_gradient() -> tuple[Tensor, Tensor]:
    """The sum hands ONE gradient tensor to both of its inputs: a backward that writes into it spoils the other's."""
    local = torch.ones(ROWS, 2, requires_grad=True)
    bias = torch.zeros(world_size() * ROWS, 2, requires_grad=True)
    early = bias * 1  # made before the gather, so its backward runs after the gather's
    ((gather(local) + early) * (rank() + 1)).sum().backward()
    return local.grad, bias.grad


def test_backward_leaves_the_incoming_gradient_as_it_is() -> None:
    for number, (local, bias) in enumerate(run_ranks(2, _shared_gradient)):
        assert torch.equal(local, torch.full_like(local, 3.0))
        assert torch.equal(bias, torch.full_like(bias, number + 1.0))


def _strided() -> tuple[Tensor, Tensor]:
    local = (torch.arange(6.0).reshape(2, 3).T + 10 * rank()).requires_grad_()
    gathered = gather(local)
    (gathered.T.reshape(2, world_size(), ROWS) * torch.arange(6.0).reshape(2, 1, 3)).sum().backward()
    return gathered.detach(), local.grad


def test_tensors_that_are_not_contiguous_are_gathered_by_their_values() -> None:
    rows = torch.arange(6.0).reshape(2, 3).T
    for gathered, gradient in run_ranks(2, _strided):
        assert torch.equal(gathered, torch.cat([rows, rows + 10]))
        assert torch.equal(gradient, 2 * rows)


def _constants() -> list[Tensor]:
    values = [torch.tensor([2**62 + rank()]), torch.tensor([rank() == 1, True]), torch.tensor([0.5 + rank()])]
    return [gather_constant(value.requires_grad_() if value.is_floating_point() else value) for value in values]


def test_constants_of_any_dtype_are_gathered_exactly_and_without_gradient() -> None:
    for ids, mask, value in run_ranks(2, _constants):
        assert ids.tolist() == [2**62, 2**62 + 1]
        assert mask.tolist() == [False, True, True, True]
        assert value.tolist() == [0.5, 1.5]
        assert not value.requires_grad


def _warnings() -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _gathered(torch.float32)
        _constants()
    return [str(one.message) for one in caught]


def test_no_deprecated_call_is_used() -> None:
    assert run_ranks(2, _warnings) == [[], []]


def test_alone_a_tensor_is_its_own_gather() -> None:
    local = torch.ones(2, 2, requires_grad=True)
    assert gather(local) is local
    assert gather_constant(local) is local
