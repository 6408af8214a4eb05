"""Segmentation by a card: what the loop is given, what is kept, and the flavours of Dice put together."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msvl.evaluation.bootstrap import Bootstrap, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.dice import MaskCounts, batched_dice, image_dice, pooled_dice
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks import segmentation
from msvl.evaluation.protocol_tasks.segmentation import MaskedSet, predict, segment
from msvl.evaluation.recipes import Schedule, SegmentationRecipe
from msvl.evaluation.tuning.images import TrainingBatch
from msvl.evaluation.tuning.loop import Plan
from msvl.evaluation.tuning.mask_losses import mask_loss
from msvl.evaluation.tuning.schedules import warmup_linear
from tests.models.tiny import SIDE, tiny_model

RECIPE = SegmentationRecipe(
    head="linear", layer_decay=0.5, batch=4, judged=3, schedules={"10": Schedule(steps=30, lr=0.2, warmup=6), "100": Schedule(steps=9, lr=0.1)}
)  # fmt: skip
COUNT = 12


def card(headline: str = "dice_image") -> Card:
    return Card(task="segmentation", data="any", headline=headline, seeds=(0, 1), segmentation=RECIPE)


class Fixed(nn.Module):
    """Says the grey value, minus 128, as the logit of the first mask and its negative as that of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        grey = images.float() / 128 - 1
        return torch.cat([grey, -grey], dim=1), None


def test_a_pixel_is_marked_from_probability_one_half_on() -> None:
    images = torch.tensor([[[[0, 128], [129, 255]]]], dtype=torch.uint8)
    truth = np.ones((1, 2, 2, 2), dtype=bool)
    first, second = predict(Fixed(), MaskedSet(images, truth), 4)  # type: ignore[arg-type]
    assert (first.predicted.tolist(), second.predicted.tolist()) == ([2], [1])  # 128 is at one half and not above


def masked(seed: int) -> MaskedSet:
    generator = np.random.default_rng(seed)
    images = torch.from_numpy(generator.integers(0, 256, (COUNT, 1, SIDE, SIDE), dtype=np.uint8))
    return MaskedSet(images, generator.random((COUNT, 2, SIDE, SIDE)) > 0.7)


SETS = {"val": masked(1), "test": masked(2)}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function of the headline that trains once, the loop being recorded."""
    calls: list[dict[str, Any]] = []

    def loop(
        network: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Any], plan: Plan, *, loss: Any, judge: Any
    ) -> tuple[float, int]:  # fmt: skip
        batch = TrainingBatch(SETS["val"].images[:3], np.arange(3), torch.from_numpy(SETS["val"].masks[:3]))
        network.eval()
        calls.append({
            "network": network, "plan": plan, "peaks": sorted({group["peak"] for group in optimizer.param_groups}),
            "loss": float(loss(batch)), "judged": judge(), "batch": batch,
        })  # fmt: skip
        return 0.5, 20

    monkeypatch.setattr(segmentation, "train", loop)
    monkeypatch.setattr(segmentation, "masked_set", lambda exam, split, size: SETS[split])
    monkeypatch.setattr(segmentation, "SampleReader", lambda index: SimpleNamespace(close=lambda: None))
    rows = SimpleNamespace(
        numbers=list(range(COUNT)), patients=[f"p{row}" for row in range(COUNT)], labels={}, extras=[{}] * COUNT
    )
    exam = SimpleNamespace(
        model=tiny_model(), batch_size=5, splits=SimpleNamespace(train=rows),
        packed=SimpleNamespace(mask_bits=["lungs", "heart"], split=lambda name: name),
    )  # fmt: skip

    def once(headline: str) -> tuple[Any, dict[str, Any]]:
        unit = segment(exam, card(headline), "10", 0)
        return unit, calls[-1]

    return once


def test_rates_and_losses_are_the_cards(trained: Any) -> None:
    _, call = trained("dice_image")
    plan = call["plan"]
    assert (plan.steps, plan.clip, plan.judged) == (30, 0.0, 3)
    assert [plan.share(step) for step in range(30)] == [warmup_linear(step, steps=30, warmup=6) for step in range(30)]
    assert call["peaks"] == pytest.approx([0.2 * share for share in (0.125, 0.25, 0.5, 1.0)])
    logits, auxiliary = call["network"](call["batch"].images)
    assert auxiliary is None
    expected = mask_loss(logits, call["batch"].masks, focal=2.0, dice=1.0, cross_entropy=0.0)
    assert call["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("headline", ["dice_image", "dice_pooled"])
def test_steps_are_judged_on_val_by_the_headline_and_the_last_word_is_of_test(trained: Any, headline: str) -> None:
    unit, call = trained(headline)
    counts = predict(call["network"], SETS["val"], 7)
    merit = pooled_dice if headline == "dice_pooled" else lambda own: image_dice(own).mean()
    assert call["judged"] == pytest.approx(np.mean([merit(own) for own in counts]))
    for name in ("both", "predicted", "truth", "pixels"):
        expected = [getattr(own, name) for own in predict(call["network"], SETS["test"], 7)]
        assert unit[name].tolist() == [own.tolist() for own in expected]


def counts(seed: int) -> list[MaskCounts]:
    """Counts of two masks of nine images: every third truth is empty, and some of those are marked all the same."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(2):
        truth = generator.integers(1, 40, 9)
        truth[::3] = 0
        predicted = generator.integers(0, 40, 9) * (generator.random(9) > 0.4)
        both = np.minimum(generator.integers(0, 40, 9), np.minimum(truth, predicted))
        found.append(MaskCounts(both, predicted, truth, np.full(9, 100)))
    return found


def test_flavours_are_means_over_seeds_and_masks_with_patients_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {(ratio, seed): counts(10 * int(ratio) + seed) for ratio in ("10", "100") for seed in (0, 1)}
    units = {
        f"segmentation-{ratio}-seed{seed}": {
            name: np.stack([getattr(own, name) for own in found]) for name in ("both", "predicted", "truth", "pixels")
        }
        for (ratio, seed), found in made.items()
    }
    patients = [f"p{row // 3}" for row in range(9)]
    part = SimpleNamespace(patients=patients, keys=[f"k{row}" for row in range(9)], labels={}, extras=[{}] * 9)

    class Part(SimpleNamespace):
        def __len__(self) -> int:
            return 9

    own = Part(**vars(part))
    exam = SimpleNamespace(
        model=tiny_model(), packed=SimpleNamespace(mask_bits=["lungs", "heart"]),
        splits=SimpleNamespace(train=own, val=own, test=own), store=lambda card: SimpleNamespace(run=lambda wanted: {name: units[name] for name in wanted}),
    )  # fmt: skip
    figures: dict[str, Any] = dict(segmentation.run(exam, card(), EvaluationConfig(resamples=80)).figures)  # type: ignore[arg-type]
    bootstrap = Bootstrap(patients, resamples=80)
    for ratio in ("10", "100"):
        every = [own for seed in (0, 1) for own in made[ratio, seed]]
        silent = np.stack([own.truth == 0 for own in every])
        dice, marked = np.stack([image_dice(own) for own in every]), np.stack([own.predicted > 0 for own in every])
        assert figures[f"dice_image_at_{ratio}"] == pytest.approx(dice.mean())
        assert figures[f"dice_positive_at_{ratio}"] == pytest.approx(dice[~silent].mean())
        assert figures[f"empty_false_positives_at_{ratio}"] == pytest.approx(marked[silent].mean())
        assert figures[f"dice_batched_at_{ratio}"] == pytest.approx(np.mean([batched_dice(own, 4) for own in every]))
        assert figures[f"dice_pooled_at_{ratio}"] == pytest.approx(np.mean([pooled_dice(own) for own in every]))
        interval = bootstrap.interval(mean_statistic(dice.mean(axis=0)))
        assert figures[f"dice_image_at_{ratio}_interval"] == pytest.approx(interval)
        by_seed = [dice[:2].mean(), dice[2:].mean()]
        assert figures[f"dice_image_at_{ratio}_spread"] == pytest.approx(np.std(by_seed))
        by_mask = {"lungs": dice[[0, 2]].mean(), "heart": dice[[1, 3]].mean()}
        assert figures[f"dice_image_by_mask_at_{ratio}"] == pytest.approx(by_mask)
    assert figures["dice_image"] == figures["dice_image_at_100"] != figures["dice_image_at_10"]
    assert figures["dice_image_chance"] == pytest.approx(1 / 3)
