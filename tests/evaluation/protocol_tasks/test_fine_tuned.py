"""Fine-tuning by a card: what the head reads, what the loop is given, which training is kept."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from msvl.evaluation.findings import known_auc
from msvl.evaluation.protocol_tasks import fine_tuned
from msvl.evaluation.protocol_tasks.fine_tuned import Classifier, decide, fine_tune
from msvl.evaluation.protocol_tasks.label_ratios import LabelRatio
from msvl.evaluation.recipes import FineTuneRecipe, Schedule
from msvl.evaluation.tuning.blocks import hidden_states, tunable_encoder
from msvl.evaluation.tuning.images import TrainingBatch
from msvl.evaluation.tuning.loop import Plan
from msvl.evaluation.tuning.schedules import warmup_cosine
from tests.models.tiny import SIDE, tiny_model

SCHEDULE = Schedule(steps=40, lr=0.3, warmup=8)
RECIPE = FineTuneRecipe(
    schedules={"10": SCHEDULE}, batch=4, head_std=0.5, layer_decay=0.5, backbone_lr_share=0.1, drop_path=0.0, weight_decay=0.05
)  # fmt: skip


def pictures(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("head_norm", [True, False])
def test_the_head_reads_patches_or_cls_through_one_norm(pooling: str, head_norm: bool) -> None:
    encoder, pixels = tunable_encoder(tiny_model())
    recipe = RECIPE.model_copy(update={"pooling": pooling, "head_norm": head_norm})
    network = Classifier(encoder, pixels, recipe, 3).eval()
    images = pictures(5, seed=0)
    tokens = hidden_states(encoder, pixels(images), drop_path=0.0)[-1]
    if not head_norm:
        tokens = encoder.layernorm(tokens)
    pooled = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
    if head_norm:
        pooled = functional.layer_norm(pooled, pooled.shape[-1:], eps=1e-6)
    linear = network.head[-1]
    assert torch.allclose(network(images), pooled @ linear.weight.T + linear.bias, atol=1e-5)
    assert encoder.layernorm.weight.requires_grad is not head_norm


class Recorded:
    """Stands in for the loop: remembers what it was given and says how good each training was."""

    def __init__(self, merits: list[float]) -> None:
        self.calls: list[dict[str, Any]] = []
        self._merits = merits

    def __call__(
        self, network: Classifier, optimizer: torch.optim.Optimizer, batches: Iterator[Any], plan: Plan, *, loss: Any, judge: Any
    ) -> tuple[float, int]:  # fmt: skip
        batch = TrainingBatch(pictures(3, seed=1), np.array([5, 0, 9]), None)
        network.eval()
        self.calls.append({
            "network": network, "plan": plan, "peaks": {group["peak"] for group in optimizer.param_groups},
            "optimizer": optimizer, "loss": float(loss(batch)), "logits": network(batch.images).detach(), "judged": judge(),
        })  # fmt: skip
        return self._merits[len(self.calls) - 1], 7


def split(count: int, seed: int) -> SimpleNamespace:
    labels = np.random.default_rng(seed).integers(0, 2, (2, count))
    labels[:, -1] = -1
    return SimpleNamespace(
        images=pictures(count, seed), labels={"effusion": labels[0], "nodule": labels[1]}, numbers=list(range(count))
    )


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Recorded]:
    """An exam, what fine-tuning with three learning rates left, and what the loop was given."""
    loop = Recorded([0.6, 0.8, 0.7])
    monkeypatch.setattr(fine_tuned, "train", loop)
    monkeypatch.setattr(fine_tuned, "SampleReader", lambda index: SimpleNamespace(close=lambda: None))
    exam = SimpleNamespace(
        model=tiny_model(), batch_size=4, packed=SimpleNamespace(split=lambda name: name),
        splits=SimpleNamespace(train=split(12, 2), val=split(20, 3), test=split(16, 4)),
    )  # fmt: skip
    recipe = RECIPE.model_copy(update={"lr_factors": (0.3, 1.0, 3.0)})
    ratio = LabelRatio("10", 0, np.arange(12), exam.splits.train.labels)
    return exam, fine_tune(exam, ratio, recipe, "auc_mean"), loop


def test_rates_are_the_cards_schedule_at_every_factor(tuned: tuple[Any, Any, Recorded]) -> None:
    for factor, call in zip((0.3, 1.0, 3.0), tuned[2].calls, strict=True):
        plan = call["plan"]
        assert (plan.steps, plan.clip, plan.judged) == (40, 1.0, 20)
        expected = [warmup_cosine(step, steps=40, warmup=8) for step in range(40)]
        assert [plan.share(step) for step in range(40)] == expected
        # Two blocks: embeddings, first and second block, and the head. The last norm is replaced by the head's.
        assert sorted(call["peaks"]) == pytest.approx([factor * 0.3 * 0.1 * share for share in (0.125, 0.25, 0.5)] + [factor * 0.3])  # fmt: skip


def test_every_weight_learns_but_the_norm_that_is_replaced(tuned: tuple[Any, Any, Recorded]) -> None:
    call = tuned[2].calls[0]
    learning = {id(value) for group in call["optimizer"].param_groups for value in group["params"]}
    resting = [name for name, value in call["network"].named_parameters() if id(value) not in learning]
    assert resting == ["encoder.layernorm.weight", "encoder.layernorm.bias"]


def test_the_loss_is_that_of_the_images_own_labels(tuned: tuple[Any, Any, Recorded]) -> None:
    exam, _, loop = tuned
    own = [exam.splits.train.labels[name][[5, 0, 9]] for name in ("effusion", "nodule")]
    targets = torch.from_numpy(np.stack(own, axis=1)).float()
    assert len({tuple(row) for row in targets.tolist()}) > 1
    expected = functional.binary_cross_entropy_with_logits(loop.calls[0]["logits"], targets)
    assert loop.calls[0]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_steps_are_judged_on_val(tuned: tuple[Any, Any, Recorded]) -> None:
    exam, _, loop = tuned
    val, network = exam.splits.val, loop.calls[0]["network"]
    values = decide(network, val.images, 7)
    expected = [known_auc(val.labels[name], values[:, place]) for place, name in enumerate(("effusion", "nodule"))]
    assert loop.calls[0]["judged"] == pytest.approx(np.mean(expected))


def test_the_learning_rate_that_is_best_on_val_is_kept(tuned: tuple[Any, Any, Recorded]) -> None:
    exam, unit, loop = tuned
    assert (float(unit["best"]), int(unit["best_step"]), float(unit["best_factor"])) == (0.8, 7, 1.0)
    for name in ("val", "test"):
        values = decide(loop.calls[1]["network"], getattr(exam.splits, name).images, 16)
        assert unit[f"{name}/effusion"] == pytest.approx(values[:, 0], abs=1e-5)
        assert unit[f"{name}/nodule"] == pytest.approx(values[:, 1], abs=1e-5)
