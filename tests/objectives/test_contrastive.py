"""The row/column core: directions, exclusions, range."""

from __future__ import annotations

import math

import pytest
import torch

from msvl.objectives.contrastive import chance_loss, retrieval_accuracy, symmetric_cross_entropy

OWN = torch.arange(3)


def test_rows_and_columns_are_both_counted() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [math.log(6.0), 0.0, 0.0]])
    rows = (2 * math.log(3) + math.log(8)) / 3
    columns = (math.log(8) + 2 * math.log(3)) / 3
    assert symmetric_cross_entropy(logits, OWN, None).item() == pytest.approx(rows + columns)


def test_an_excluded_pair_leaves_both_denominators_whatever_its_logit() -> None:
    allowed = torch.tensor([[True, False, True], [False, True, True], [True, True, True]])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    losses = []
    for value in (-5.0, 0.0, 1e4):
        changed = logits.clone()
        changed[0, 1] = changed[1, 0] = value
        changed.requires_grad_()
        loss = symmetric_cross_entropy(changed, OWN, allowed)
        loss.backward()
        assert changed.grad[0, 1] == changed.grad[1, 0] == 0
        losses.append(loss.item())
    assert losses[0] == losses[1] == losses[2]


def test_where_everything_else_is_excluded_the_loss_is_zero() -> None:
    logits = torch.randn(3, 3, requires_grad=True)
    loss = symmetric_cross_entropy(logits, OWN, torch.eye(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()
    assert chance_loss(torch.eye(3, dtype=torch.bool), logits) == 0


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_large_logits_do_not_overflow(size: float) -> None:
    logits = (size * torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, -1.0]])).requires_grad_()
    loss = symmetric_cross_entropy(logits, OWN, None)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_accuracy_looks_at_admissible_candidates_only() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]])
    allowed = torch.ones(3, 3, dtype=torch.bool)
    assert retrieval_accuracy(logits, OWN, None).item() == pytest.approx(1 / 3)
    allowed[0, 1] = False
    assert retrieval_accuracy(logits, OWN, allowed).item() == pytest.approx(2 / 3)


def test_chance_is_the_mean_logarithm_of_the_number_of_candidates() -> None:
    allowed = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    expected = (math.log(1) + math.log(2) + math.log(3)) / 3
    assert chance_loss(allowed, torch.zeros(3, 3)).item() == pytest.approx(expected)
