"""Zero-shot phrase grounding: does the map of phrase-patch cosines lie where the phrase's boxes are?

P phrase-image pairs with a box, H and W image height and width.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch

from msvl.evaluation.bootstrap import Bootstrap, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.maps import box_masks, contrast_to_noise, mean_iou, pointing_hits, upsample
from msvl.evaluation.material import Figures, Material, NotJudgeable, Pair, put
from msvl.evaluation.metrics import Floats

PAIR_BLOCK = 64
"""Maps at image resolution held at once (64 x 512 x 512 floats: 64 MB, and some copies)."""

FLAVOUR = (
    "cosine maps, bilinear to the model's square; CNR signed, population variances; mIoU over thresholds .1-.5 on maps "
    "stretched to [-1, 1] per image (MaCo); boxes of one phrase united; mean over phrase-image pairs"
)


def run(material: Material, config: EvaluationConfig) -> Figures:
    """Return CNR, mIoU and the pointing game over pairs, and the mean per finding.

    `pointing_chance` is the mean share of the image inside the boxes: what random pointing hits, and also the IoU of
    marking the whole image.

    Raises:
        NotJudgeable: No pair has a box inside the model's square.
    """
    values = measure(material, sigma=config.grounding_sigma)
    kept = np.isfinite(values["cnr"])
    if not kept.any():
        raise NotJudgeable(
            "grounding needs phrases with boxes in the evaluated split: choose a split that has them, "
            "or leave the task out with --tasks"
        )
    pairs = [pair for pair, keep in zip(material.pairs, kept, strict=True) if keep]
    patients = [material.patients[pair.row] for pair in pairs]
    bootstrap = Bootstrap(patients, resamples=config.resamples, seed=config.seed)
    figures: Figures = {}
    for name in ("cnr", "miou", "pointing"):
        column = values[name][kept]
        put(figures, name, column.mean(), bootstrap.interval(mean_statistic(column)))
        figures[f"{name}_by_finding"] = _by_finding(pairs, column)
    figures["cnr_absolute"] = float(np.abs(values["cnr"][kept]).mean())
    figures["pointing_chance"] = float(values["area"][kept].mean())
    return figures | {
        "pairs": len(pairs),
        "pairs_outside_crop": int((~kept).sum()),
        "sigma": config.grounding_sigma,
        "flavour": FLAVOUR,
    }


def measure(material: Material, *, sigma: float) -> dict[str, Floats]:
    """Return per pair `cnr`, `miou`, `pointing` and the boxes' `area` share, each [P]; cnr is nan without a region."""
    height, width = material.images.shape[-2:]
    columns: dict[str, list[torch.Tensor]] = defaultdict(list)
    for start in range(0, len(material.pairs), PAIR_BLOCK):
        block = material.pairs[start : start + PAIR_BLOCK]
        maps = upsample(material.encoded.pair_maps[start : start + PAIR_BLOCK], (height, width), sigma=sigma)
        masks = box_masks([list(pair.boxes) for pair in block], (height, width))
        columns["cnr"].append(contrast_to_noise(maps, masks))
        columns["miou"].append(mean_iou(maps, masks))
        columns["pointing"].append(pointing_hits(maps, masks))
        columns["area"].append(masks.double().mean(dim=(1, 2)))
    names = ("cnr", "miou", "pointing", "area")
    return {name: torch.cat(columns[name]).double().numpy() if columns[name] else np.zeros(0) for name in names}


def _by_finding(pairs: list[Pair], values: Floats) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for pair, value in zip(pairs, values, strict=True):
        groups[pair.finding or "unnamed"].append(float(value))
    return {name: float(np.mean(group)) for name, group in sorted(groups.items())}
