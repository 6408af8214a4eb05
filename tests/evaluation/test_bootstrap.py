"""Intervals over patients: they cover, they widen when samples are not independent, they repeat."""

from __future__ import annotations

import numpy as np
import pytest

from msvl.evaluation import bootstrap as bootstrap_module
from msvl.evaluation.bootstrap import Bootstrap, NoInterval, auc_statistic, mean_of, mean_statistic
from msvl.evaluation.figures import with_untrained
from msvl.evaluation.material import Figures, put


def patients(count: int, per_patient: int = 1) -> list[str]:
    return [f"p{index // per_patient}" for index in range(count)]


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = generator.normal(size=80)
        interval = Bootstrap(patients(80), resamples=300, seed=trial).interval(mean_statistic(values))
        assert isinstance(interval, tuple)
        covered += interval[0] <= 0.0 <= interval[1]
    assert 175 <= covered <= 199  # 190 expected, binomial spread 3


def test_interval_of_a_mean_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    interval = Bootstrap(patients(2000), seed=0).interval(mean_statistic(values))
    assert isinstance(interval, tuple)
    half_width = 1.96 * values.std() / np.sqrt(2000)
    assert interval == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.15 * half_width)


def test_a_patients_samples_are_drawn_together() -> None:
    per_patient = np.random.default_rng(0).normal(size=100)
    copied = np.repeat(per_patient, 9)
    by_patient = Bootstrap(patients(900, 9), seed=0).interval(mean_statistic(copied))
    by_sample = Bootstrap(patients(900), seed=0).interval(mean_statistic(copied))
    once = Bootstrap(patients(100), seed=0).interval(mean_statistic(per_patient))
    assert isinstance(by_patient, tuple) and isinstance(by_sample, tuple) and isinstance(once, tuple)
    # Nine copies of everybody say nothing new: the interval is that of one copy, three times as wide as by sample.
    assert (by_patient[1] - by_patient[0]) == pytest.approx(once[1] - once[0], rel=0.1)
    assert (by_patient[1] - by_patient[0]) > 2.5 * (by_sample[1] - by_sample[0])


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    values = np.random.default_rng(1).normal(size=50)
    first, second, other = (Bootstrap(patients(50), seed=s).interval(mean_statistic(values)) for s in (3, 3, 4))
    assert first == second != other


def test_the_interval_does_not_depend_on_how_many_weights_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=40)
    whole = Bootstrap(patients(40), resamples=100, seed=0).interval(mean_statistic(values))
    monkeypatch.setattr(bootstrap_module, "CHUNK_ELEMENTS", 300)
    assert Bootstrap(patients(40), resamples=100, seed=0).interval(mean_statistic(values)) == pytest.approx(whole)


def test_unknown_labels_never_count() -> None:
    labels = np.array([1, 0, -1, -2, 1, 0])
    scores = np.array([0.9, 0.1, 5.0, -5.0, 0.8, 0.2])
    assert auc_statistic(labels, scores)(np.ones((1, 6))).tolist() == [1.0]


def test_resamples_without_a_class_are_left_out() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    interval = Bootstrap(patients(8), seed=0).interval(auc_statistic(labels, labels.astype(float)))
    assert interval == (1.0, 1.0)


def test_no_interval_when_most_resamples_are_undefined() -> None:
    labels = np.array([1, 0, -2, -2, -2, -2, -2, -2])  # both classes are drawn in 43 % of the resamples
    found = Bootstrap(patients(8), seed=0).interval(auc_statistic(labels, labels.astype(float)))
    assert isinstance(found, NoInterval)
    assert "of 1,000 resamples of the patients have both classes" in found.reason
    figures: Figures = {}
    put(figures, "auc_mean", 0.5, found)
    assert figures == {"auc_mean": 0.5, "auc_mean_interval": None, "auc_mean_interval_missing": found.reason}
    assert (
        with_untrained({"zero_shot": figures}, {"zero_shot": figures})["zero_shot"]["auc_mean_untrained_interval"]
        is None
    )


def test_no_interval_from_one_patient_or_without_resamples() -> None:
    assert Bootstrap(["a", "a"]).interval(mean_statistic(np.ones(2))) == NoInterval("fewer than two patients")
    assert Bootstrap(["a", "b"], resamples=0).interval(mean_statistic(np.ones(2))) is None


def test_the_mean_over_findings_uses_the_same_resample() -> None:
    statistic = mean_of([mean_statistic(np.array([0.0, 1.0])), mean_statistic(np.array([1.0, 0.0]))])
    assert Bootstrap(["a", "b"], seed=0).interval(statistic) == (0.5, 0.5)


def test_a_resample_that_lacks_a_class_of_one_finding_has_no_mean_over_findings() -> None:
    rare = auc_statistic(np.array([1, 0, 0, 0]), np.arange(4.0))
    common = auc_statistic(np.array([1, 0, 1, 0]), np.arange(4.0))
    weights = np.array([[1.0, 1, 1, 1], [0.0, 1, 2, 1]])  # nobody with the rare finding is drawn in the second
    assert np.isnan(mean_of([rare, common])(weights)).tolist() == [False, True]
