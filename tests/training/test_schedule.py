"""The learning rate is a pure function of the step."""

from __future__ import annotations

import pytest

from msvl.training.schedule import cosine_lr


def lr(step: int, warmup: int = 4, final: float = 0.1) -> float:
    return cosine_lr(step, peak=2.0, warmup_steps=warmup, steps=24, final_share=final)


def test_warmup_is_linear_and_ends_at_the_peak() -> None:
    assert [lr(step) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]


def test_half_way_is_the_mean_of_peak_and_final() -> None:
    assert lr(14) == pytest.approx((2.0 + 0.2) / 2)


def test_last_and_later_steps_stay_at_the_final_share() -> None:
    assert lr(24) == pytest.approx(0.2)
    assert lr(1000) == pytest.approx(0.2)


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert lr(0, warmup=0) == 2.0
