"""Phrase grounding by a card: at the stored image's resolution with nothing outside the crop, or on the model's square.

P phrase-image pairs with a box.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray

from msvl.data.images import centre_square
from msvl.evaluation.answers import Answer, Column, Columns
from msvl.evaluation.bootstrap import Bootstrap, known_mean_statistic, mean_of, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.exam import Exam
from msvl.evaluation.maps import (
    MIOU_THRESHOLDS,
    box_masks,
    contrast_to_noise,
    place_in_image,
    pointing_hits,
    threshold_ious,
    upsample,
)
from msvl.evaluation.material import Figures, NotJudgeable, Pair, put
from msvl.evaluation.metrics import Floats
from msvl.evaluation.protocol import Card
from msvl.evaluation.recipes import GroundingRecipe

REFERENCE_GRID = 14
"""Patches per side that a card's sigma is meant for (BioViL, MaCo)."""


def run(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    """Collective. Return mIoU, CNR (signed and absolute) and pointing over pairs, over categories, and per category.

    Raises:
        NotJudgeable: No pair has a box inside what the model sees.
    """
    assert card.grounding is not None, card.task
    recipe, test = card.grounding, exam.splits.test
    maps = exam.features("test", pairs=True).pair_maps if exam.pairs else torch.zeros(0, 1, 1)
    values = measure(exam, maps, recipe)
    kept = np.isfinite(values["cnr"])
    if not kept.any():
        raise NotJudgeable(
            "grounding needs phrases with boxes in the evaluated split: choose a split that has them, "
            "or leave the task out with --tasks"
        )
    pairs = [pair for pair, keep in zip(exam.pairs, kept, strict=True) if keep]
    patients = [test.patients[pair.row] for pair in pairs]
    keys = [f"{test.keys[pair.row]} {pair.phrase}" for pair in pairs]
    bootstrap = Bootstrap(patients, resamples=config.resamples, seed=config.seed)
    figures: Figures = {}
    columns: Columns = {}
    for name in ("miou", "cnr", "cnr_absolute", "pointing"):
        column = values[name][kept]
        groups = _by_category(pairs, column)
        macro = [known_mean_statistic(np.where(members, column, np.nan)) for members in _categories(pairs).values()]
        both = {
            "micro": (float(column.mean()), bootstrap.interval(mean_statistic(column))),
            "category": (float(np.mean(list(groups.values()))), bootstrap.interval(mean_of(macro))),
        }
        put(figures, f"{name}_micro", *both["micro"])
        put(figures, f"{name}_macro", *both["category"])
        figures[f"{name}_by_finding"] = groups
        put(figures, name, *both[recipe.average])
        columns[name] = Column(column, tuple(keys), tuple(patients))
    for threshold in MIOU_THRESHOLDS:
        figures[f"iou_{threshold:g}"] = float(values[f"iou_{threshold:g}"][kept].mean())
    figures["pointing_chance"] = float(values["area"][kept].mean())
    figures |= {"pairs": len(pairs), "pairs_outside_crop": int((~kept).sum()), "resolution": recipe.resolution}
    return Answer(figures, columns, maps={"pair_maps": maps.numpy()})


def measure(exam: Exam, maps: torch.Tensor, recipe: GroundingRecipe) -> dict[str, Floats]:
    """Return what is measured per pair, each [P]; cnr is nan where no box is inside."""
    columns: dict[str, list[float]] = defaultdict(list)
    square_pairs = exam.square_pairs()
    for number, pair in enumerate(exam.pairs):
        placed, mask = placed_map(exam, maps[number], pair, square_pairs[number], recipe)
        seen = placed.isfinite()
        contrast = contrast_to_noise(placed, mask)
        columns["cnr"].append(float(contrast))
        columns["cnr_absolute"].append(float(contrast.abs()))
        ious = threshold_ious(placed, mask, stretched=recipe.stretched)[0]
        columns["miou"].append(float(ious.mean()))
        for threshold, value in zip(MIOU_THRESHOLDS, ious.tolist(), strict=True):
            columns[f"iou_{threshold:g}"].append(value)
        columns["pointing"].append(float(pointing_hits(placed, mask)))
        columns["area"].append(float((mask & seen).sum() / seen.sum()))
    names = ("cnr", "cnr_absolute", "miou", "pointing", "area", *(f"iou_{item:g}" for item in MIOU_THRESHOLDS))
    return {name: np.asarray(columns[name], dtype=np.float64) for name in names}


def placed_map(
    exam: Exam, grid: torch.Tensor, pair: Pair, inside: Pair, recipe: GroundingRecipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the map and the mask of one pair, each [1, H, W], at the card's resolution.

    Args:
        exam: The exam.
        grid: [rows, columns] of cosines.
        pair: Boxes in the stored image.
        inside: The same pair with boxes in the model's square.
        recipe: The card's.
    """
    sigma = recipe.sigma * len(grid) / REFERENCE_GRID
    if recipe.resolution == "square":
        size = (exam.model.config.image_size, exam.model.config.image_size)
        return upsample(grid[None], size, sigma=sigma), box_masks([list(inside.boxes)], size)
    shape = exam.splits.test.shapes[pair.row]
    return place_in_image(grid[None], centre_square(*shape), shape, sigma=sigma), box_masks([list(pair.boxes)], shape)


def _categories(pairs: list[Pair]) -> dict[str, NDArray[np.bool_]]:
    """Return category -> which pairs are of it [P]."""
    names = np.asarray([pair.finding or "unnamed" for pair in pairs], dtype=object)
    return {name: names == name for name in sorted(set(names.tolist()))}


def _by_category(pairs: list[Pair], values: Floats) -> dict[str, float]:
    return {name: float(values[members].mean()) for name, members in _categories(pairs).items()}
