"""What is fitted on val and what is judged on test, of one classifier's figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from msvl.evaluation.answers import Answer
from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.calibration import brier_score, fit_platt
from msvl.evaluation.classifiers import Scores, classifier_answer
from msvl.evaluation.operating_point import choose_threshold
from msvl.evaluation.protocol_tasks.fine_tuned import merit

FINDINGS = ("effusion", "nodule")


def split(seed: int, shift: float) -> tuple[Any, dict[str, np.ndarray]]:
    """Labels of 60 patients with three images each, equal within a patient, and scores that lie `shift` higher."""
    generator = np.random.default_rng(seed)
    patients = [f"p{row // 3}" for row in range(180)]
    labels = {name: np.repeat(generator.integers(0, 2, 60), 3) for name in FINDINGS}
    scores = {
        name: np.repeat(generator.normal(size=60) + values[::3] + shift, 3)
        for name, values in labels.items()
    }  # fmt: skip
    keys = [f"k{row}" for row in range(180)]
    return SimpleNamespace(labels=labels, patients=patients, keys=keys), scores


VAL, VAL_SCORES = split(0, 0.0)
TEST, TEST_SCORES = split(1, 2.0)
"""Judged scores lie two higher, so that a threshold of val and one of test are far apart."""


def answer(*, on_test: bool, patients: list[str] | None = None) -> Answer:
    bootstrap = Bootstrap(patients or TEST.patients, resamples=200)
    return classifier_answer(
        Scores(VAL_SCORES, TEST_SCORES), VAL, TEST, rule="youden", on_test=on_test, bootstrap=bootstrap
    )


@pytest.mark.parametrize(("on_test", "labels", "scores"), [(False, VAL.labels, VAL_SCORES), (True, TEST.labels, TEST_SCORES)])  # fmt: skip
def test_the_threshold_is_of_the_split_that_is_said(on_test: bool, labels: dict, scores: dict) -> None:
    figures: dict[str, Any] = dict(answer(on_test=on_test).figures)
    thresholds = {name: choose_threshold(labels[name], scores[name], "youden") for name in FINDINGS}
    assert figures["threshold"] == thresholds
    assert figures["threshold_from"] == ("test" if on_test else "val")
    said = {name: TEST_SCORES[name] >= thresholds[name] for name in FINDINGS}
    for name in FINDINGS:
        assert figures["f1"][name] == pytest.approx(f1_score(TEST.labels[name], said[name]))
    for figure, expected in (
        ("f1_mean", [f1_score(TEST.labels[name], said[name]) for name in FINDINGS]),
        ("f1_weighted_mean", [f1_score(TEST.labels[name], said[name], average="weighted") for name in FINDINGS]),
        ("accuracy_mean", [accuracy_score(TEST.labels[name], said[name]) for name in FINDINGS]),
        ("auc_mean", [roc_auc_score(TEST.labels[name], TEST_SCORES[name]) for name in FINDINGS]),
    ):
        assert figures[figure] == pytest.approx(np.mean(expected)), figure


def test_probabilities_are_fitted_on_val_and_judged_on_test() -> None:
    found = answer(on_test=True)
    expected = []
    for name in FINDINGS:
        platt = fit_platt(VAL.labels[name], VAL_SCORES[name])
        assert found.classified is not None and found.classified.platt[name] == platt
        expected.append(brier_score(TEST.labels[name], platt(TEST_SCORES[name])))
    assert found.figures["brier"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("figure", ["auc_mean", "f1_mean", "accuracy_mean"])
def test_intervals_are_those_of_the_patients_given(figure: str) -> None:
    # Three equal images of everybody: drawn one by one they would seem to be three times as many patients.
    widths = [
        np.diff(answer(on_test=False, patients=patients).figures[f"{figure}_interval"])[0]
        for patients in (TEST.patients, TEST.keys)
    ]
    assert 1.4 < widths[0] / widths[1] < 2.1  # the root of 3


@pytest.mark.evidence("The best step of fine-tuning is chosen on val by the card's headline: AUC, or F1", how="cpu")
@pytest.mark.parametrize(("headline", "best"), [("auc_mean", "ranks"), ("f1_mean", "cuts")])
def test_the_best_step_is_known_by_the_headline(headline: str, best: str) -> None:
    labels = {"nodule": np.array([1] * 10 + [0] * 10 + [-1, -2])}
    # 'cuts' has seven positives above everything and three below; 'ranks' mixes both classes, but better on the whole.
    scores = {
        "cuts": np.r_[[3.0] * 7, [-3.0] * 3, [0.0] * 10, 9.0, -9.0],
        "ranks": np.r_[[3.0] * 5, [1.0] * 5, [2.0] * 5, [0.0] * 5, 9.0, -9.0],
    }
    values = {name: merit(labels, {"nodule": own}, headline) for name, own in scores.items()}
    known = {name: own[:20] for name, own in scores.items()}
    truth = labels["nodule"][:20]
    if headline == "auc_mean":
        expected = {name: roc_auc_score(truth, own) for name, own in known.items()}
    else:
        cut = {name: choose_threshold(truth, own, "youden") for name, own in known.items()}
        expected = {name: f1_score(truth, own >= cut[name]) for name, own in known.items()}
    assert values == pytest.approx(expected)
    assert max(values, key=values.__getitem__) == best
