"""The probes: their loss, MGCA's early stopping, what unknown labels do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from msvl.evaluation.exam import Features
from msvl.evaluation.metrics import auc
from msvl.evaluation.protocol_tasks.label_ratios import LabelRatio
from msvl.evaluation.protocol_tasks.linear_probe import fit_probe, known_loss
from msvl.evaluation.recipes import ProbeRecipe


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
