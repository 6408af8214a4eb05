"""Learning rates step by step against MRM's and MaCo's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.tuning.images import TrainingBatch
from msvl.evaluation.tuning.loop import Plan, train
from msvl.evaluation.tuning.schedules import warmup_cosine, warmup_linear


@pytest.mark.evidence(
    "The fine-tuning schedules are MRM's and MaCo's step by step (linear warm-up, cosine to 0, per step)", how="cpu"
)
def test_nih_at_one_percent_step_by_step() -> None:
    schedule = read_protocol("maco").card("fine_tuned", "nih-chestxray14").fine_tuned.schedules["1"]

    def rate(step: int) -> float:
        return schedule.lr * warmup_cosine(step, steps=schedule.steps, warmup=schedule.warmup)

    # 2,000 steps, peak 8.5e-3, warm-up 50: the cosine runs over 1,950 steps.
    by_hand = {
        0: 0.0, 1: 8.5e-3 / 50, 25: 4.25e-3, 49: 8.5e-3 * 49 / 50, 50: 8.5e-3, 50 + 975: 4.25e-3,
        50 + 650: 8.5e-3 * 0.75, 50 + 1300: 8.5e-3 * 0.25, 2000: 0.0,
    }  # fmt: skip
    assert {step: rate(step) for step in by_hand} == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("name", ["maco", "mrm"])
@pytest.mark.parametrize("data", ["nih-chestxray14", "chexpert", "rsna-pneumonia"])
@pytest.mark.parametrize("ratio", ["1", "10", "100"])
def test_every_published_schedule_at_every_step(name: str, data: str, ratio: str) -> None:
    schedule = read_protocol(name).card("fine_tuned", data).fine_tuned.schedules[ratio]
    steps, warmup = schedule.steps, schedule.warmup
    found = np.array([warmup_cosine(step, steps=steps, warmup=warmup) for step in range(steps)]) * schedule.lr
    rising = schedule.lr * np.arange(warmup) / warmup
    falling = schedule.lr * np.cos(np.pi / 2 * np.arange(steps - warmup) / (steps - warmup)) ** 2
    assert np.abs(found - np.concatenate([rising, falling])).max() < 1e-15
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference = get_cosine_schedule_with_warmup(optimizer, warmup, steps).lr_lambdas[0]
    for step in (0, 1, warmup // 2, warmup, warmup + 1, steps // 2, steps - 1):
        assert found[step] == pytest.approx(schedule.lr * reference(step), abs=1e-12)


def test_the_loop_takes_the_published_rates_step_by_step() -> None:
    # MRM, RSNA at 1 %, shortened a hundred times: what the optimizer really used, in every group.
    schedule = read_protocol("mrm").card("fine_tuned", "rsna-pneumonia").fine_tuned.schedules["1"]
    steps, warmup = schedule.steps // 100, 5
    used: list[float] = []

    class Recorded(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            used.extend({group["lr"] for group in self.param_groups})
            super().step(closure)

    network = torch.nn.Linear(1, 1)
    optimizer = Recorded([{"params": [value], "peak": schedule.lr} for value in network.parameters()], lr=1.0)
    batch = TrainingBatch(torch.ones(1, 1, 1, 1, dtype=torch.uint8), np.zeros(1, dtype=np.int64), None)
    plan = Plan(steps, lambda step: warmup_cosine(step, steps=steps, warmup=warmup), clip=1.0, judged=1)
    train(network, optimizer, iter([batch] * steps), plan, loss=lambda _: network.weight.sum(), judge=lambda: 0.0)
    by_hand = [3e-3 * step / 5 for step in range(5)]
    by_hand += [3e-3 * 0.5 * (1 + math.cos(math.pi * step / 15)) for step in range(15)]
    assert used == pytest.approx(by_hand, abs=1e-15)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert warmup_cosine(0, steps=10, warmup=0) == 1.0


def test_linear_decay_is_mmsegs_poly_of_power_one() -> None:
    # 1,000 steps, warm-up 100 from 1e-6: mmseg multiplies the decayed rate by the warm-up share.
    assert warmup_linear(0, steps=1000, warmup=100) == pytest.approx(1e-6)
    assert warmup_linear(50, steps=1000, warmup=100) == pytest.approx(0.95 * (1e-6 + (1 - 1e-6) * 0.5))
    assert warmup_linear(500, steps=1000, warmup=100) == pytest.approx(0.5)
    assert warmup_linear(1000, steps=1000, warmup=100) == 0.0
