"""Two models on the same samples: which way the difference points, and what is drawn for its interval."""

from __future__ import annotations

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.evaluation.answers import Column, Columns
from msvl.evaluation.compare import compare_columns, told_apart

PATIENTS = tuple(f"p{row // 3}" for row in range(60))
KEYS = tuple(f"k{row}" for row in range(60))


def columns(values: np.ndarray, keys: tuple[str, ...] = KEYS) -> Columns:
    return {"dice_image": Column(values, keys, PATIENTS)}


def test_the_difference_is_second_minus_first_and_so_is_its_interval() -> None:
    generator = np.random.default_rng(0)
    first = generator.random(60)
    better = first + 0.2 + 0.05 * generator.random(60)
    item = compare_columns(columns(first), columns(better), "segmentation", resamples=200, seed=0)["dice_image"]
    assert (item["first"], item["second"]) == pytest.approx((first.mean(), better.mean()))
    assert item["difference"] == pytest.approx(better.mean() - first.mean())
    # Paired: the patients' own levels, whose spread is far wider than 0.05, are in neither end.
    assert 0.2 < item["interval"][0] < item["difference"] < item["interval"][1] < 0.25
    back = compare_columns(columns(better), columns(first), "segmentation", resamples=200, seed=0)["dice_image"]
    assert back["interval"] == pytest.approx([-item["interval"][1], -item["interval"][0]])
    assert told_apart(item) and told_apart(back)


def test_patients_are_drawn_and_not_images() -> None:
    first = np.zeros(60)
    gains = np.repeat(np.random.default_rng(1).normal(size=20), 3)
    widths = []
    for patients in (PATIENTS, KEYS):
        own = [{"dice_image": Column(values, KEYS, patients)} for values in (first, gains)]
        low, high = compare_columns(own[0], own[1], "segmentation", resamples=300, seed=0)["dice_image"]["interval"]
        widths.append(high - low)
    assert 1.4 < widths[0] / widths[1] < 2.1  # three equal images of everybody: the root of 3


@pytest.mark.parametrize(
    ("interval", "apart"), [([0.1, 0.2], True), ([-0.2, -0.1], True), ([-0.1, 0.2], False), ([0.0, 0.2], False), (None, False)]
)  # fmt: skip
def test_two_models_are_told_apart_where_the_interval_leaves_out_nought(
    interval: list[float] | None, apart: bool
) -> None:
    assert told_apart({"interval": interval}) is apart


def test_other_samples_are_no_pair() -> None:
    other = tuple(reversed(KEYS))
    with pytest.raises(DataError, match="dice_image was measured on other samples in the two files"):
        compare_columns(columns(np.zeros(60)), columns(np.ones(60), other), "segmentation", resamples=0, seed=0)
