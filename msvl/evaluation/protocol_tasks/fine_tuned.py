"""Fine-tuned classification by a card: every weight of the image encoder, a share of the labels, several seeds.

B batch, N patches, F channels, K findings.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msvl.data.reader import SampleReader
from msvl.evaluation.answers import Answer
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.exam import Exam
from msvl.evaluation.findings import Labels, judgeable, known_auc
from msvl.evaluation.metrics import Floats
from msvl.evaluation.operating_point import Rule, choose_threshold, f1_statistic, plain
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks.label_ratios import LabelRatio, ratio_answer
from msvl.evaluation.protocol_tasks.linear_probe import known_loss
from msvl.evaluation.recipes import FineTuneRecipe
from msvl.evaluation.tuning.blocks import Pixels, hidden_states, parameter_groups, tunable_encoder
from msvl.evaluation.tuning.images import Cut, TrainingBatch, TrainingImages
from msvl.evaluation.tuning.loop import Plan, build_optimizer, seeded, train
from msvl.evaluation.tuning.schedules import warmup_cosine
from msvl.evaluation.units import Unit
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.vit import PREFIX_TOKENS, ViTImageEncoder

JUDGE_RULE: Rule = "youden"
"""How thresholds are chosen on val."""


class Classifier(nn.Module):
    """The image encoder and a linear head on its pooled tokens, or on the pooled plane of a ResNet."""

    def __init__(self, encoder: nn.Module, pixels: Pixels, recipe: FineTuneRecipe, num_findings: int) -> None:
        """Build a fresh head; a ViT's last norm gives way to the head's own where the recipe says so."""
        super().__init__()
        self.encoder, self._pixels, self._recipe = encoder, pixels, recipe
        width = int(encoder.width)  # type: ignore[arg-type]
        linear = nn.Linear(width, num_findings)
        nn.init.trunc_normal_(linear.weight, std=recipe.head_std)
        nn.init.zeros_(linear.bias)
        if recipe.head_norm and isinstance(encoder, ViTImageEncoder):
            encoder.layernorm.requires_grad_(False)
        self.head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), linear) if recipe.head_norm else nn.Sequential(linear)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 [B, 1, H, W] to logits [B, K]."""
        logits: Tensor = self.head(self._pooled(self._pixels(images)))
        return logits

    def _pooled(self, pixels: Tensor) -> Tensor:
        if not isinstance(self.encoder, ViTImageEncoder):
            encoded: EncodedImage = self.encoder(pixels)
            return encoded.cls if self._recipe.pooling == "cls" else encoded.patches.mean(dim=1)
        tokens = hidden_states(self.encoder, pixels, drop_path=self._recipe.drop_path)[-1]
        if not self._recipe.head_norm:
            return self.encoder.pooled(tokens, self._recipe.pooling)
        return tokens[:, 0] if self._recipe.pooling == "cls" else tokens[:, PREFIX_TOKENS:].mean(dim=1)


def run(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    """Collective. Return per share of the labels the AUC and the rest, mean over seeds; the best step on val is judged.

    Raises:
        NotJudgeable: No training studies, or no finding with both classes in all splits.
    """
    assert card.fine_tuned is not None, card.task
    recipe = card.fine_tuned
    ratios = sorted(recipe.schedules, key=int)

    def fit(ratio: LabelRatio) -> Unit:
        return fine_tune(exam, ratio, recipe, card.headline)

    answer = ratio_answer(exam, card, config, ratios, fit, judge_rule=JUDGE_RULE)
    for ratio, schedule in recipe.schedules.items():
        answer.figures[f"images_seen_at_{ratio}"] = schedule.steps * recipe.batch * len(recipe.lr_factors)
    return answer


def fine_tune(exam: Exam, ratio: LabelRatio, recipe: FineTuneRecipe, headline: str) -> Unit:
    """Train on a share of the labels, at each learning rate of the recipe, and keep what is best on val by the headline.

    Returns:
        Decision values as 'val/FINDING' and 'test/FINDING'; 'best', 'best_step' and 'best_factor' of the learning rate.
    """
    kept: Unit = {}
    for factor in recipe.lr_factors:
        found = _fine_tune_once(exam, ratio, recipe, headline, factor)
        if not kept or found["best"] > kept["best"]:
            kept = found | {"best_factor": np.asarray(factor)}
    return kept


def _fine_tune_once(exam: Exam, ratio: LabelRatio, recipe: FineTuneRecipe, headline: str, factor: float) -> Unit:
    schedule = recipe.schedules[ratio.ratio]  # type: ignore[index]
    names = list(ratio.labels)
    device = next(exam.model.parameters()).device
    targets = torch.from_numpy(np.stack([exam.splits.train.labels[name] for name in names], axis=1)).to(device)
    with seeded(ratio.seed):
        encoder, pixels = tunable_encoder(exam.model)
        network = Classifier(encoder, pixels, recipe, len(names)).to(device)
        groups = parameter_groups(
            encoder, network.head, lr=factor * schedule.lr, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay,
            backbone_share=recipe.backbone_lr_share,
        )  # fmt: skip
        reader = SampleReader(exam.packed.split("train"))
        cut = Cut(size=exam.model.config.image_size, area=recipe.crop, flip=0.5 if recipe.flip else 0.0)
        images = TrainingImages(reader, exam.splits.train.numbers, ratio.rows, cut, batch=recipe.batch, seed=ratio.seed)

        def loss(batch: TrainingBatch) -> Tensor:
            return known_loss(network(batch.images.to(device)), targets[torch.from_numpy(batch.rows).to(device)])

        def judge() -> float:
            values = decide(network, exam.splits.val.images, exam.batch_size)
            return merit(exam.splits.val.labels, dict(zip(names, values.T, strict=True)), headline)

        plan = Plan(
            steps=schedule.steps,
            share=lambda step: warmup_cosine(step, steps=schedule.steps, warmup=schedule.warmup),
            clip=recipe.clip,
            judged=recipe.judged,
        )
        optimizer = build_optimizer(recipe.optimizer, groups, momentum=recipe.momentum)
        best, step = train(network, optimizer, images.batches(schedule.steps), plan, loss=loss, judge=judge)
        reader.close()
    scores = {split: decide(network, getattr(exam.splits, split).images, exam.batch_size) for split in ("val", "test")}
    found: Unit = {f"{split}/{name}": values[:, place] for split, values in scores.items() for place, name in enumerate(names)}  # fmt: skip
    return found | {"best": np.asarray(best), "best_step": np.asarray(step)}


def merit(labels: Labels, scores: Mapping[str, Floats], headline: str) -> float:
    """Return what the best step is known by: the mean over findings of F1 where the headline is an F1, else of AUC.

    F1 is at the threshold that the same labels give, which is how the judged split's is found (`classifiers.py`).

    Args:
        labels: Finding -> [N] on val.
        scores: Finding -> [N], decision values of the findings that count.
        headline: The card's.
    """
    own = {name: labels[name] for name in scores}
    values = [
        _best_f1(own[name], scores[name]) if headline.startswith("f1") else known_auc(own[name], scores[name])
        for name in judgeable(own)
    ]
    return float(np.mean(values))


def _best_f1(labels: NDArray[np.int64], scores: Floats) -> float:
    return plain(f1_statistic(labels, scores, choose_threshold(labels, scores, JUDGE_RULE)), len(scores))


@torch.no_grad()
def decide(network: nn.Module, images: Tensor, batch_size: int) -> Floats:
    """Return logits [N, K] of uint8 images in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    parts = [network(images[start : start + batch_size].to(device)).double().cpu().numpy()
             for start in range(0, len(images), batch_size)]  # fmt: skip
    return np.concatenate(parts)
