"""Sums, means and maxima over real ranks."""

from __future__ import annotations

import pytest
import torch

from msvl.collectives.reduce import maximum, mean, mean_of, ratio_of_totals, total
from msvl.collectives.world import rank
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.ranks


def _everything() -> dict[str, object]:
    local = torch.tensor([1.0 + rank(), -float(rank())], requires_grad=True)
    counts = torch.tensor(3 * rank())
    ratio = ratio_of_totals(local[0] * 6, counts)
    ratio.backward()
    found = {"total": total(local), "mean": mean(local), "maximum": maximum(local)}
    return {name: value.tolist() for name, value in found.items()} | {
        "untouched": local.tolist(),
        "gradients": [value.requires_grad for value in found.values()],
        "named": mean_of({"b": torch.tensor([2.0 * rank()]), "a": torch.tensor(1 + rank())}),
        "ratio": mean(ratio.detach()).item(),
        "ratio_gradient": local.grad.tolist(),
        "nothing_counted": ratio_of_totals(torch.tensor(0.0), torch.tensor(0)).item(),
    }


def test_on_two_ranks() -> None:
    for number, found in enumerate(run_ranks(2, _everything)):
        assert found["total"] == [3.0, -1.0]
        assert found["mean"] == [1.5, -0.5]
        assert found["maximum"] == [2.0, 0.0]
        assert found["untouched"] == [1.0 + number, -float(number)]
        assert not any(found["gradients"])
        assert found["named"] == {"a": 1.5, "b": 1.0}
        assert found["ratio"] == 6.0  # (6 + 12) / (0 + 3)
        assert found["ratio_gradient"] == [4.0, 0.0]  # 2 ranks * 6 / 3
        assert found["nothing_counted"] == 0.0


def test_alone_they_are_the_value_itself() -> None:
    value = torch.tensor([1.0, 2.0])
    assert all(torch.equal(function(value), value) for function in (total, mean, maximum))
    assert ratio_of_totals(torch.tensor(6.0), torch.tensor(4)) == 1.5
    assert mean_of({"a": torch.tensor(2.0)}) == {"a": 2.0}
