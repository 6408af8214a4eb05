"""Learning rates step by step against MRM's and MaCo's."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from msvl.evaluation.protocol import read_protocol
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


@pytest.mark.parametrize("data", ["nih-chestxray14", "chexpert", "rsna-pneumonia"])
@pytest.mark.parametrize("ratio", ["1", "10", "100"])
def test_every_published_schedule_against_transformers(data: str, ratio: str) -> None:
    schedule = read_protocol("maco").card("fine_tuned", data).fine_tuned.schedules[ratio]
    steps, warmup = schedule.steps, schedule.warmup
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference = get_cosine_schedule_with_warmup(optimizer, warmup, steps).lr_lambdas[0]
    for step in (0, 1, warmup // 2, warmup, warmup + 1, steps // 2, steps - 1):
        assert warmup_cosine(step, steps=steps, warmup=warmup) == pytest.approx(reference(step), abs=1e-12)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert warmup_cosine(0, steps=10, warmup=0) == 1.0


def test_linear_decay_is_mmsegs_poly_of_power_one() -> None:
    # 1,000 steps, warm-up 100 from 1e-6: mmseg multiplies the decayed rate by the warm-up share.
    assert warmup_linear(0, steps=1000, warmup=100) == pytest.approx(1e-6)
    assert warmup_linear(50, steps=1000, warmup=100) == pytest.approx(0.95 * (1e-6 + (1 - 1e-6) * 0.5))
    assert warmup_linear(500, steps=1000, warmup=100) == pytest.approx(0.5)
    assert warmup_linear(1000, steps=1000, warmup=100) == 0.0
