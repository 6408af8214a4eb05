"""Blocks of rows against the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from msvl.objectives import blocks
from msvl.objectives.chunked import sigmoid_rows, two_way_rows
from tests.objectives.one_rank import close

OWN, REPORTS, CHANNELS = 5, 9, 4


@pytest.fixture(params=[1, 2, 100])
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", request.param * REPORTS)
    return int(request.param)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(OWN, CHANNELS, generator=generator, dtype=torch.float64).requires_grad_()
    text = torch.randn(REPORTS, CHANNELS, generator=generator, dtype=torch.float64).requires_grad_()
    scale = torch.tensor([2.5], dtype=torch.float64, requires_grad=True)
    own = torch.tensor([4, 5, 6, 7, 8])
    allowed = torch.rand(OWN, REPORTS, generator=generator) > 0.3
    return image, text, scale, own, allowed.scatter(1, own.unsqueeze(1), True)


@pytest.mark.parametrize("masked", [False, True])
def test_two_way_rows_are_those_of_the_matrix(block_rows: int, masked: bool) -> None:
    image, text, scale, own, allowed = inputs()
    allowed = allowed if masked else torch.ones_like(allowed)
    found = two_way_rows(image, text, scale, own, (lambda rows: allowed[rows]) if masked else None)
    weights = [
        torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (OWN, REPORTS, OWN)
    ]
    sum((a * w).sum() for a, w in zip((found.rows, found.columns, found.positive), weights, strict=True)).backward()

    plain = [leaf.detach().clone().requires_grad_() for leaf in (image, text, scale)]
    logits = (plain[2] * plain[0] @ plain[1].T).masked_fill(~allowed, float("-inf"))
    # A report that no own image may take part with has an empty sum.
    columns = torch.where(allowed.any(dim=0), logits.masked_fill(~allowed, -1e9).logsumexp(dim=0), 0.0)
    positive = logits.gather(1, own.unsqueeze(1)).squeeze(1)
    used = allowed.any(dim=0)
    assert close(found.rows, logits.logsumexp(dim=1))
    assert close(found.columns[used], columns[used])
    assert close(found.positive, positive)
    (
        (logits.logsumexp(dim=1) * weights[0]).sum()
        + (columns * weights[1])[used].sum()
        + (positive * weights[2]).sum()
    ).backward()
    for leaf, expected in zip((image, text, scale), plain, strict=True):
        assert close(leaf.grad, expected.grad)
    assert found.candidates.tolist() == allowed.sum(dim=1).tolist()
    others = logits.detach().scatter(1, own.unsqueeze(1), float("-inf"))
    assert close(found.best_other, others.amax(dim=1))
    assert close(found.total, logits.detach().masked_fill(~allowed, 0).sum(dim=1))


@pytest.mark.parametrize("masked", [False, True])
def test_sigmoid_rows_are_those_of_the_matrix(block_rows: int, masked: bool) -> None:
    image, text, scale, own, allowed = inputs()
    allowed = allowed if masked else torch.ones_like(allowed)
    bias = torch.tensor([-1.5], dtype=torch.float64, requires_grad=True)
    weights = torch.arange(1.0, OWN + 1, dtype=torch.float64)
    found = sigmoid_rows(image, text, scale, bias, own, (lambda rows: allowed[rows]) if masked else None)
    (found.losses * weights).sum().backward()

    plain = [leaf.detach().clone().requires_grad_() for leaf in (image, text, scale, bias)]
    logits = plain[2] * plain[0] @ plain[1].T + plain[3]
    signs = -torch.ones(OWN, REPORTS, dtype=torch.float64)
    signs = signs.scatter(1, own.unsqueeze(1), 1.0)
    expected = (-logsigmoid(signs * logits) * allowed).sum(dim=1)
    (expected * weights).sum().backward()
    assert close(found.losses, expected)
    told = two_way_rows(image, text, scale, own, (lambda rows: allowed[rows]) if masked else None)
    for name in ("positive", "candidates", "best_other", "total"):
        assert torch.equal(getattr(found, name), getattr(told, name)), name
        assert not getattr(found, name).requires_grad
    for leaf, other in zip((image, text, scale, bias), plain, strict=True):
        assert close(leaf.grad, other.grad)


def test_ties_are_no_hits() -> None:
    same = torch.ones(3, 2)
    found = two_way_rows(same, same, torch.ones(1), torch.arange(3), None)
    assert not (found.positive > found.best_other).any()


def test_nothing_of_the_matrix_is_kept_for_the_backward_pass() -> None:
    image, text, scale, own, _ = inputs()
    held: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        two_way_rows(image, text, scale, own, None)
    assert sum(held) == image.numel() + text.numel() + 1 + 2 * OWN + REPORTS
