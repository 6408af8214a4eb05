"""The probes: their loss, MGCA's early stopping, what unknown labels do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from msvl.evaluation.exam import Features
from msvl.evaluation.metrics import auc
from msvl.evaluation.protocol_tasks.label_ratios import LabelRatio
from msvl.evaluation.protocol_tasks.linear_probe import fit_probe, known_loss
from msvl.evaluation.recipes import ProbeRecipe
from msvl.evaluation.tasks.linear_probe import HELD_OUT_SHARE, STRENGTHS, _patient_share, choose_strength


def test_the_loss_is_the_mean_over_known_labels_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, 5.0]])
    targets = torch.tensor([[1, 0], [-1, -2]])
    high = 1 / (1 + math.exp(-2.0))
    assert known_loss(logits, targets).item() == pytest.approx((math.log(2) - math.log(1 - high)) / 2, rel=1e-5)


def test_nothing_known_is_no_loss_and_no_error() -> None:
    assert known_loss(torch.ones(2, 1), torch.full((2, 1), -2)).item() == 0.0


@pytest.mark.parametrize("kind", ["logistic", "adamw"])
def test_a_probe_finds_what_is_linear(kind: str) -> None:
    generator = np.random.default_rng(0)
    labels = {split: {"nodule": generator.integers(0, 2, 120)} for split in ("train", "val", "test")}
    labels["train"]["nodule"][:20] = -1

    def features(split: str) -> Features:
        values = generator.normal(size=(120, 6))
        values[:, 2] += 3 * labels[split]["nodule"]
        empty = torch.zeros(120, 0)
        return Features(empty, torch.from_numpy(values).float(), empty, empty)

    found = {split: features(split) for split in labels}
    ratio = LabelRatio("100", 0, np.arange(120), labels["train"])
    patients = [f"p{row}" for row in range(120)]
    unit = fit_probe(found, patients, labels["val"], ratio, ProbeRecipe(kind=kind, lr=0.02))
    assert set(unit) == {"val/nodule", "test/nodule"}
    assert auc(labels["test"]["nodule"], unit["test/nodule"]) > 0.95
    again = fit_probe(found, patients, labels["val"], ratio, ProbeRecipe(kind=kind, lr=0.02))
    assert np.array_equal(unit["test/nodule"], again["test/nodule"])


def noisy(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and 40 features [N, 40] of which one says a little, at other scales and places."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    values = generator.normal(size=(count, 40))
    values[:, 7] += labels
    return labels, values * generator.uniform(0.1, 10, 40) + seed


def test_the_logistic_probe_is_scikit_learns_on_features_scaled_by_training() -> None:
    splits = {name: noisy(count, seed) for seed, (name, count) in enumerate((("train", 160), ("val", 50), ("test", 70)))}  # fmt: skip
    splits["test"] = (splits["test"][0], splits["test"][1] * 3 + 5)  # scaled by itself it would look like training's
    empty = torch.zeros(0)
    found = {name: Features(empty, torch.from_numpy(values).float(), empty, empty) for name, (_, values) in splits.items()}  # fmt: skip
    rows = np.arange(20, 140)
    ratio = LabelRatio("10", 0, rows, {"nodule": splits["train"][0][rows]})
    patients = [f"p{row // 2}" for row in range(160)]
    unit = fit_probe(found, patients, {"nodule": splits["val"][0]}, ratio, ProbeRecipe(kind="logistic"))

    scaler = StandardScaler().fit(splits["train"][1][rows])
    inputs = scaler.transform(splits["train"][1][rows])
    strength = choose_strength(inputs, ratio.labels, [patients[row] for row in rows])
    reference = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(inputs, ratio.labels["nodule"])
    for name in ("val", "test"):
        expected = reference.decision_function(scaler.transform(splits[name][1]))
        assert unit[f"{name}/nodule"] == pytest.approx(expected, abs=0.02 * np.abs(expected).max())


def test_the_strength_is_the_best_on_training_patients_that_were_held_out() -> None:
    labels, features = noisy(300, seed=5)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    patients = [f"p{row // 2}" for row in range(300)]
    held = np.array([_patient_share(patient) < HELD_OUT_SHARE for patient in patients])
    assert 0.1 < held.mean() < 0.3
    merits = []
    for strength in STRENGTHS:
        reference = LogisticRegression(C=strength, max_iter=5000).fit(features[~held], labels[~held])
        merits.append(roc_auc_score(labels[held], reference.decision_function(features[held])))
    assert len(set(merits)) > 1
    assert choose_strength(features, {"nodule": labels}, patients) == STRENGTHS[int(np.argmax(merits))]
