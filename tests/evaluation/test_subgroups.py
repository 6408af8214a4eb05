"""Who is in which group, and what a group's figure is made of."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from msvl.evaluation.answers import classification_columns
from msvl.evaluation.subgroups import groups_of, subgroup_figures


def test_groups_by_sex_age_view_and_race() -> None:
    extras = [
        {"sex": "FM"[row % 2], "age": age, "race": "A" if row < 20 else "B"}
        for row, age in enumerate([25, 45, 65, 85] * 10)
    ]
    groups = groups_of(["PA"] * 25 + ["AP"] * 15, extras)
    assert list(groups) == [
        "sex: F", "sex: M", "age: 0 to 39", "age: 40 to 59", "age: 60 to 79", "age: 80 and older", "view: AP", "view: PA",
        "race: A", "race: B",
    ]  # fmt: skip
    assert groups["age: 80 and older"].tolist() == [False, False, False, True] * 10
    assert groups["view: AP"].sum() == 15


def test_an_age_band_begins_with_its_first_year() -> None:
    ages = [39] * 10 + [40] * 10 + [59] * 10 + [60] * 10 + [79] * 10 + [80] * 10 + [120] * 10
    groups = groups_of(["PA"] * 70, [{"age": age} for age in ages])
    assert {name: sorted({ages[row] for row in np.flatnonzero(kept)}) for name, kept in groups.items()} == {
        "age: 0 to 39": [39], "age: 40 to 59": [40, 59], "age: 60 to 79": [60, 79], "age: 80 and older": [80, 120],
    }  # fmt: skip


def test_small_and_unsaid_groups_are_not_shown() -> None:
    extras = [{"sex": "F"}] * 30 + [{"sex": "M"}] * 9 + [{}] * 11
    assert groups_of(["unknown"] * 50, extras) == {}


def test_impossible_ages_belong_nowhere() -> None:
    ages = [30] * 10 + [50] * 10 + [411, -3, "old", None] * 5
    groups = groups_of(["PA"] * 40, [{"age": age} for age in ages])
    assert {name: int(kept.sum()) for name, kept in groups.items()} == {"age: 0 to 39": 10, "age: 40 to 59": 10}


def test_a_groups_figure_is_the_auc_of_its_images() -> None:
    generator = np.random.default_rng(0)
    labels = {name: generator.integers(0, 2, 80) for name in ("effusion", "nodule")}
    scores = {name: generator.normal(size=80) + values for name, values in labels.items()}
    labels["nodule"][:40] = 0  # no positives in the first group
    keys, patients = [f"k{row}" for row in range(80)], [f"p{row // 2}" for row in range(80)]
    columns = classification_columns("auc_mean", labels, scores, keys, patients)
    first = np.arange(80) < 40
    found = subgroup_figures(columns, {"first": first, "second": ~first}, keys, resamples=100, seed=0)
    assert found["first"]["auc_mean"] == pytest.approx(roc_auc_score(labels["effusion"][:40], scores["effusion"][:40]))
    both = [roc_auc_score(labels[name][40:], scores[name][40:]) for name in labels]
    assert found["second"]["auc_mean"] == pytest.approx(np.mean(both))
    low, high = found["second"]["auc_mean_interval"]
    assert low <= found["second"]["auc_mean"] <= high
    assert (found["first"]["images"], found["first"]["patients"]) == (40, 20)
