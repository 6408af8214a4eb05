"""Segmentation by a card: a UPerNet-style or a linear head, shares of the labels, every Dice flavour.

N judged images, K masks, H and W the square's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from msvl.data.evaluation_set import EvaluationSet
from msvl.data.images import evaluation_image
from msvl.data.reader import SampleReader
from msvl.evaluation.answers import Answer, Column, Columns
from msvl.evaluation.bootstrap import Bootstrap, Statistic, known_mean_statistic, mean_of, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.dice import (
    MaskCounts,
    batched_statistic,
    count_masks,
    empty_false_positives,
    image_dice,
    joined_counts,
    pooled_dice,
    pooled_statistic,
    positive_dice,
)
from msvl.evaluation.exam import Exam
from msvl.evaluation.material import Figures, NotJudgeable, put
from msvl.evaluation.operating_point import plain
from msvl.evaluation.protocol import Card
from msvl.evaluation.recipes import SegmentationRecipe
from msvl.evaluation.tuning.blocks import Pixels, hidden_states, parameter_groups, trainable_encoder
from msvl.evaluation.tuning.images import Cut, TrainingBatch, TrainingImages, square_mask
from msvl.evaluation.tuning.loop import Plan, build_optimizer, seeded, train
from msvl.evaluation.tuning.mask_heads import LinearHead, MaskHead, PyramidHead, as_planes, four_blocks, start_at
from msvl.evaluation.tuning.mask_losses import mask_loss
from msvl.evaluation.tuning.schedules import warmup_linear
from msvl.evaluation.tuning.subsets import label_subset
from msvl.evaluation.units import Unit
from msvl.models.families.vit import PREFIX_TOKENS, ViTImageEncoder

FLAVOURS: dict[str, Callable[[MaskCounts, int], Statistic]] = {
    "dice_image": lambda own, batch: mean_statistic(image_dice(own)),
    "dice_batched": batched_statistic,
    "dice_pooled": lambda own, batch: pooled_statistic(own),
    "dice_positive": lambda own, batch: known_mean_statistic(positive_dice(own)),
    "empty_false_positives": lambda own, batch: known_mean_statistic(empty_false_positives(own)),
}
"""Flavour -> pixel counts of a mask and the batch to a statistic of the images."""


class Segmenter(nn.Module):
    """The image encoder and a mask head."""

    def __init__(self, encoder: ViTImageEncoder, pixels: Pixels, recipe: SegmentationRecipe, num_masks: int) -> None:
        """Build a fresh head."""
        super().__init__()
        self.encoder, self._pixels, self._drop_path = encoder, pixels, recipe.drop_path
        self._blocks = four_blocks(len(encoder.layers))
        head: LinearHead | PyramidHead = LinearHead(encoder.width, num_masks)
        if recipe.head == "upernet":
            head = PyramidHead(encoder.width, num_masks, channels=recipe.channels or encoder.width)
        if recipe.prior is not None:
            start_at(head, recipe.prior)
        self.head: MaskHead = head
        self._frozen = recipe.freeze
        encoder.layernorm.requires_grad_(False)
        if recipe.freeze:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Segmenter:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map uint8 [B, 1, H, W] to logits [B, K, h, w] and those of the auxiliary head."""
        states = hidden_states(self.encoder, self._pixels(images), drop_path=self._drop_path)
        return self.head(as_planes(states, self._blocks, PREFIX_TOKENS))


@dataclass(frozen=True)
class MaskedSet:
    """A split with masks at the size of the segmentation."""

    images: Tensor
    """[N, 1, H, W] uint8."""
    masks: NDArray[np.bool_]
    """[N, K, H, W]."""


def run(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    """Collective. Return the Dice flavours per share of the labels, mean over seeds and masks.

    Raises:
        NotJudgeable: The packed set has no masks or no training studies, or the encoder no transformer blocks.
        CheckpointError: The card's image size is no multiple of the encoder's patch.
    """
    assert card.segmentation is not None, card.task
    recipe, test = card.segmentation, exam.splits.test
    names = exam.packed.mask_bits
    if not names or not len(exam.splits.train) or not len(exam.splits.val):
        raise NotJudgeable("segmentation needs masks in train, val and test: choose another packed set")
    if not isinstance(exam.model.image_encoder, ViTImageEncoder):
        found_kind = type(exam.model.image_encoder).__name__
        raise NotJudgeable(
            f"segmentation reads the blocks of a vision transformer, and this checkpoint is a {found_kind}"
        )
    ratios: list[str] = sorted(recipe.schedules, key=int)
    units = exam.store(card=card.digest).run({  # the longest first: ranks that share them end together
        f"segmentation-{ratio}-seed{seed}": _training(exam, card, ratio, seed)
        for ratio in reversed(ratios) for seed in card.seeds
    })  # fmt: skip
    bootstrap = Bootstrap(test.patients, resamples=config.resamples, seed=config.seed)
    figures: Figures = {"seeds": len(card.seeds), "masks": len(names)}
    columns: Columns = {}
    for ratio in ratios:
        found = [_counts(units[f"segmentation-{ratio}-seed{seed}"], len(names)) for seed in card.seeds]
        figures |= _flavours(found, names, ratio, recipe.batch, bootstrap)
        dice = np.mean([image_dice(own) for counts in found for own in counts], axis=0)
        columns[f"dice_image_at_{ratio}"] = Column(dice, tuple(test.keys), tuple(test.patients))
        figures[f"training_images_at_{ratio}"] = len(label_subset(exam.splits.train, ratio, card.seeds[0]))
    for flavour in FLAVOURS:
        for end in ("", "_interval"):
            if f"{flavour}_at_{ratios[-1]}{end}" in figures:
                figures[f"{flavour}{end}"] = figures[f"{flavour}_at_{ratios[-1]}{end}"]
    truth = _counts(units[f"segmentation-{ratios[-1]}-seed{card.seeds[0]}"], len(names))
    figures["dice_image_chance"] = float(np.mean([(own.truth == 0).mean() for own in truth]))
    return Answer(figures, columns)


def _training(exam: Exam, card: Card, ratio: str, seed: int) -> Callable[[], Unit]:
    return lambda: segment(exam, card, ratio, seed)


def _mean_image_dice(counts: MaskCounts) -> float:
    return float(image_dice(counts).mean())


def segment(exam: Exam, card: Card, ratio: str, seed: int) -> Unit:
    """Train on a share of the labels and keep what is best on val by the card's headline.

    Returns:
        The pixel counts of the judged split, each [K, N].
    """
    recipe = card.segmentation
    assert recipe is not None, card.task
    merit = pooled_dice if card.headline == "dice_pooled" else _mean_image_dice
    schedule = recipe.schedules[ratio]  # type: ignore[index]
    names = exam.packed.mask_bits
    size = recipe.size or exam.model.config.image_size
    device = next(exam.model.parameters()).device
    val, test = (masked_set(exam, split, size) for split in ("val", "test"))
    with seeded(seed):
        encoder, pixels = trainable_encoder(exam.model, size)
        network = Segmenter(encoder, pixels, recipe, len(names)).to(device)
        groups = parameter_groups(
            encoder, network.head, lr=schedule.lr, weight_decay=recipe.weight_decay,  # type: ignore[arg-type]
            layer_decay=recipe.layer_decay, backbone_share=1.0,
        )  # fmt: skip
        reader = SampleReader(exam.packed.split("train"))
        rows = label_subset(exam.splits.train, ratio, seed)
        images = TrainingImages(
            reader, exam.splits.train.numbers, rows, Cut(size, (1.0, 1.0), recipe.flip), batch=recipe.batch, seed=seed,
            bits=range(len(names)),
        )  # fmt: skip

        def loss(batch: TrainingBatch) -> Tensor:
            assert batch.masks is not None
            logits, auxiliary = network(batch.images.to(device))
            weights = {"focal": recipe.focal, "dice": recipe.dice, "cross_entropy": recipe.cross_entropy}
            truth = batch.masks.to(device)
            total = mask_loss(logits, truth, **weights)
            return total if auxiliary is None else total + recipe.auxiliary * mask_loss(auxiliary, truth, **weights)

        def judge() -> float:
            return float(np.mean([merit(own) for own in predict(network, val, exam.batch_size)]))

        plan = Plan(
            steps=schedule.steps,
            share=lambda step: warmup_linear(step, steps=schedule.steps, warmup=schedule.warmup),
            clip=0.0,
            judged=recipe.judged,
        )
        best, step = train(
            network, build_optimizer("adamw", groups), images.batches(schedule.steps), plan, loss=loss, judge=judge
        )
        reader.close()
    counts = predict(network, test, exam.batch_size)
    found: Unit = {name: np.stack([getattr(own, name) for own in counts]) for name in ("both", "predicted", "truth", "pixels")}  # fmt: skip
    return found | {"best": np.asarray(best), "best_step": np.asarray(step)}


def masked_set(exam: Exam, split: str, size: int) -> MaskedSet:
    """Read the masks of a split, and its images at another size where that is asked for."""
    own: EvaluationSet = getattr(exam.splits, split)
    reader = SampleReader(exam.packed.split(split))
    bits = range(len(exam.packed.mask_bits))
    masks = np.stack([square_mask(reader, number, size, bits) for number in own.numbers])
    images = own.images
    if size != exam.model.config.image_size:
        planes = [evaluation_image(reader.image(number), size) for number in own.numbers]
        images = torch.from_numpy(np.stack(planes)[:, None])
    reader.close()
    return MaskedSet(images, masks)


@torch.no_grad()
def predict(network: Segmenter, masked: MaskedSet, batch_size: int) -> list[MaskCounts]:
    """Return the pixel counts of each mask, at probability 0.5, in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for start in range(0, len(masked.images), batch_size):
        truth = masked.masks[start : start + batch_size]
        logits = network(masked.images[start : start + batch_size].to(device))[0]
        full = functional.interpolate(logits, size=truth.shape[-2:], mode="bilinear", align_corners=False)
        said = (full > 0).cpu().numpy()
        parts.append([count_masks(said[:, place], truth[:, place]) for place in range(truth.shape[1])])
    return [joined_counts([part[place] for part in parts]) for place in range(masked.masks.shape[1])]


def _counts(unit: Unit, num_masks: int) -> list[MaskCounts]:
    return [MaskCounts(*(unit[name][place] for name in ("both", "predicted", "truth", "pixels")))
            for place in range(num_masks)]  # fmt: skip


def _flavours(found: list[list[MaskCounts]], names: list[str], ratio: str, batch: int, bootstrap: Bootstrap) -> Figures:
    """Return every flavour with its interval, mean over seeds and masks, and the first flavour per mask.

    A mask that a flavour is not defined for (no image with a lesion, none without) takes no part in its mean.
    """
    figures: Figures = {}
    for flavour, make in FLAVOURS.items():
        statistics = [[make(own, batch) for own in counts] for counts in found]
        table = np.array([[plain(own, len(counts[0].both)) for own in row] for row, counts in zip(statistics, found, strict=True)])  # fmt: skip
        known = np.isfinite(table).all(axis=0)
        if known.any():
            parts = [own for row in statistics for own, keep in zip(row, known, strict=True) if keep]
            name = f"{flavour}_at_{ratio}"
            put(figures, name, float(table[:, known].mean()), bootstrap.interval(mean_of(parts)))
            figures[f"{name}_spread"] = float(table[:, known].mean(axis=1).std())
        if flavour == "dice_image":
            figures[f"{flavour}_by_mask_at_{ratio}"] = dict(zip(names, table.mean(axis=0).tolist(), strict=True))
    return figures
