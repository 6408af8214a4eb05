"""The training loop: rates by step, judged when planned, the best kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from msvl.evaluation.tuning.images import TrainingBatch
from msvl.evaluation.tuning.loop import Plan, build_optimizer, seeded, train


def batches(count: int) -> list[TrainingBatch]:
    return [TrainingBatch(torch.ones(1, 1, 1, 1, dtype=torch.uint8), np.zeros(1, dtype=np.int64), None)] * count


def test_the_best_weights_are_kept_and_not_the_last() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    seen: list[float] = []
    optimizer = build_optimizer("sgd", [{"params": list(network.parameters()), "peak": 1.0, "lr": 0.0}], momentum=0.0)

    def judge() -> float:
        seen.append(network.weight.item())
        return -abs(network.weight.item() + 3)  # best at -3

    plan = Plan(steps=6, share=lambda step: 1.0, clip=0.0, judged=6)
    best, step = train(network, optimizer, iter(batches(6)), plan, loss=lambda batch: network.weight.sum(), judge=judge)
    assert seen == [-1, -2, -3, -4, -5, -6]
    assert (best, step, network.weight.item()) == (0.0, 3, -3.0)
    assert not network.training


def test_the_first_of_equally_good_steps_is_kept() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = build_optimizer("sgd", [{"params": list(network.parameters()), "peak": 1.0, "lr": 0.0}], momentum=0.0)
    plan = Plan(steps=4, share=lambda step: 1.0, clip=0.0, judged=4)
    best = train(network, optimizer, iter(batches(4)), plan, loss=lambda batch: network.weight.sum(), judge=lambda: 0.7)
    assert (best, network.weight.item()) == ((0.7, 1), -1.0)


def test_rates_are_the_plans() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = build_optimizer("sgd", [{"params": list(network.parameters()), "peak": 2.0, "lr": 0.0}], momentum=0.0)
    plan = Plan(steps=3, share=lambda step: (0.0, 1.0, 0.5)[step], clip=0.0, judged=1)
    train(network, optimizer, iter(batches(3)), plan, loss=lambda batch: network.weight.sum(), judge=lambda: 0.0)
    assert network.weight.item() == pytest.approx(-(0.0 + 2.0 + 1.0))


def test_judged_evenly_and_always_at_the_end() -> None:
    plan = Plan(steps=10, share=lambda step: 1.0, clip=0.0, judged=3)
    assert [step for step in range(1, 11) if plan.judge_now(step)] == [4, 7, 10]


def test_gradients_are_clipped() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = build_optimizer("sgd", [{"params": list(network.parameters()), "peak": 1.0, "lr": 0.0}], momentum=0.0)
    plan = Plan(steps=1, share=lambda step: 1.0, clip=0.5, judged=1)
    train(network, optimizer, iter(batches(1)), plan, loss=lambda batch: 10 * network.weight.sum(), judge=lambda: 0.0)
    assert network.weight.item() == pytest.approx(-0.5, rel=1e-4)


def test_a_seed_of_its_own_leaves_the_global_one_alone() -> None:
    torch.manual_seed(1)
    with seeded(7):
        first = torch.rand(2)
    outside = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(outside, torch.rand(2))
    with seeded(7):
        assert torch.equal(first, torch.rand(2))
