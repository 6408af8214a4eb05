"""Linear probe by a card: a share of the labels, several draws of it, on features that are extracted once.

T training images, N judged images, F features, K findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from msvl.evaluation.answers import Answer
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.exam import Exam, Features
from msvl.evaluation.findings import Labels
from msvl.evaluation.metrics import Floats
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks.label_ratios import LabelRatio, checked_splits, ratio_answer
from msvl.evaluation.recipes import ProbeRecipe
from msvl.evaluation.tasks.linear_probe import choose_strength, logistic_scores, standardised
from msvl.evaluation.tuning.loop import seeded
from msvl.evaluation.units import Unit


def run(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    """Collective. Return per share of the labels the AUC and the rest, mean over the seeds that drew the labels.

    Raises:
        NotJudgeable: No training studies, or no finding with both classes in all splits.
    """
    assert card.linear_probe is not None, card.task
    checked_splits(exam, "linear probe")
    features = {split: exam.features(split) for split in ("train", "val", "test")}
    recipe = card.linear_probe

    def fit(ratio: LabelRatio) -> Unit:
        return fit_probe(features, exam.splits.train.patients, exam.splits.val.labels, ratio, recipe)

    return ratio_answer(exam, card, config, recipe.ratios, fit, judge_rule="youden")


def fit_probe(
    features: Mapping[str, Features], patients: list[str], val_labels: Labels, ratio: LabelRatio, recipe: ProbeRecipe
) -> Unit:
    """Fit on a share of the training rows and return decision values as 'val/FINDING' and 'test/FINDING'."""
    train = features["train"].pooled[ratio.rows].double().numpy()
    scaled = {split: standardised(train, features[split].pooled.double().numpy())[1] for split in ("val", "test")}
    train = standardised(train, train)[0]
    kept = [patients[row] for row in ratio.rows]
    scores: Callable[[Floats], dict[str, Floats]]
    if recipe.kind == "logistic":
        strength = choose_strength(train, ratio.labels, kept)
        found = logistic_scores(train, ratio.labels, np.concatenate([scaled["val"], scaled["test"]]), strength=strength)
        count = len(scaled["val"])
        return {f"val/{name}": values[:count] for name, values in found.items()} | {
            f"test/{name}": values[count:] for name, values in found.items()
        }
    scores = adamw_probe(train, ratio, scaled["val"], val_labels, recipe)
    return {f"{split}/{name}": values for split in ("val", "test") for name, values in scores(scaled[split]).items()}


def adamw_probe(
    train: Floats, ratio: LabelRatio, val: Floats, val_labels: Labels, recipe: ProbeRecipe
) -> Callable[[Floats], dict[str, Floats]]:
    """Train MGCA's probe: one linear layer, binary cross entropy, early stopping on the validation loss."""
    names = list(ratio.labels)
    inputs, targets = torch.from_numpy(train).float(), _targets(ratio.labels)
    held, wanted = torch.from_numpy(val).float(), _targets({name: val_labels[name] for name in names})
    with seeded(ratio.seed):
        layer = torch.nn.Linear(inputs.shape[1], len(names))
        optimizer = torch.optim.AdamW(layer.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        best, best_state, waited = float("inf"), layer.state_dict(), 0
        for _ in range(recipe.epochs):
            for rows in torch.randperm(len(inputs)).split(recipe.batch):
                optimizer.zero_grad()
                known_loss(layer(inputs[rows]), targets[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                value = float(known_loss(layer(held), wanted))
            waited = 0 if value < best else waited + 1
            if value < best:
                best, best_state = value, {name: item.clone() for name, item in layer.state_dict().items()}
            if waited == recipe.patience:
                break
        layer.load_state_dict(best_state)

    def scores(values: Floats) -> dict[str, Floats]:
        with torch.no_grad():
            logits = layer(torch.from_numpy(values).float()).double().numpy()
        return {name: logits[:, place] for place, name in enumerate(names)}

    return scores


def _targets(labels: Labels) -> Tensor:
    return torch.from_numpy(np.stack([values for values in labels.values()], axis=1))


def known_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross entropy, mean over the labels that are 1 or 0.

    Args:
        logits: [B, K].
        targets: [B, K] int64; anything but 1 and 0 is unknown.
    """
    known = (targets == 1) | (targets == 0)
    losses = functional.binary_cross_entropy_with_logits(
        logits, targets.clamp(min=0).to(logits.dtype), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)
