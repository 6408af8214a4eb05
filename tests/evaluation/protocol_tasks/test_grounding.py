"""Grounding at the stored image's resolution: what was cut off counts nowhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from msvl.evaluation.bootstrap import Bootstrap, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.maps import box_masks, contrast_to_noise, mean_iou, pointing_hits, threshold_ious, upsample
from msvl.evaluation.material import Pair
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks.grounding import REFERENCE_GRID, measure, run
from msvl.evaluation.recipes import GroundingRecipe

WIDE = (16, 28)
"""The model sees columns 6 to 21."""


def exam(*boxes: tuple[float, float, float, float]) -> Any:
    """An exam of one image per box: in the stored image, and in the model's square of 8 px (half the scale)."""
    pairs = tuple(Pair(row, f"phrase {row}", "nodule", (box,)) for row, box in enumerate(boxes))
    square = tuple(
        Pair(row, f"phrase {row}", "nodule", (((x - 6) / 2, y / 2, w / 2, h / 2),))
        for row, (x, y, w, h) in enumerate(boxes)
    )
    return SimpleNamespace(
        pairs=pairs, square_pairs=lambda: square, model=SimpleNamespace(config=SimpleNamespace(image_size=8)),
        splits=SimpleNamespace(test=SimpleNamespace(shapes=[WIDE] * len(boxes))),
    )  # fmt: skip


GRID = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_figures_are_those_of_the_part_that_the_model_saw() -> None:
    # The second box begins left of the crop: only its inner part counts.
    found = measure(exam((10, 4, 6, 8), (0, 0, 12, 6)), GRID, GroundingRecipe(resolution="image", sigma=0.0))
    maps = upsample(GRID, (16, 16))
    masks = box_masks([[(4, 4, 6, 8)], [(0, 0, 6, 6)]], (16, 16))
    assert found["cnr"] == pytest.approx(contrast_to_noise(maps, masks).numpy(), rel=1e-5)
    assert found["miou"] == pytest.approx(mean_iou(maps, masks).numpy(), rel=1e-5)
    assert found["pointing"] == pytest.approx(pointing_hits(maps, masks).numpy(), rel=1e-5)
    assert found["area"] == pytest.approx([48 / 256, 36 / 256])


def test_the_absolute_contrast_is_the_signed_ones_size() -> None:
    found = measure(exam((10, 4, 6, 8), (8, 2, 5, 5)), GRID, GroundingRecipe(sigma=0.0))
    assert found["cnr_absolute"].tolist() == np.abs(found["cnr"]).tolist()
    assert (found["cnr"] < 0).any()


def test_a_box_that_the_model_never_saw_has_no_figure() -> None:
    found = measure(exam((0, 0, 5, 5), (8, 2, 5, 5)), GRID, GroundingRecipe(sigma=0.0))
    assert np.isnan(found["cnr"]).tolist() == [True, False]


def test_the_square_is_judged_where_a_card_says_so() -> None:
    found = measure(exam((10, 4, 6, 8), (8, 2, 6, 6)), GRID, GroundingRecipe(resolution="square", sigma=0.0))
    maps = upsample(GRID, (8, 8))
    masks = box_masks([[(2, 2, 3, 4)], [(1, 1, 3, 3)]], (8, 8))
    assert found["miou"] == pytest.approx(mean_iou(maps, masks).numpy(), rel=1e-5)


def test_sigma_is_in_patches_of_a_grid_of_fourteen() -> None:
    recipe = GroundingRecipe(resolution="square", sigma=3.5)
    found = measure(exam((10, 4, 6, 8), (8, 2, 6, 6)), GRID, recipe)
    maps = upsample(GRID, (8, 8), sigma=3.5 * 4 / REFERENCE_GRID)
    masks = box_masks([[(2, 2, 3, 4)], [(1, 1, 3, 3)]], (8, 8))
    assert found["cnr"] == pytest.approx(contrast_to_noise(maps, masks).numpy(), rel=1e-5)


def test_cosines_themselves_are_cut_where_a_card_says_so() -> None:
    recipe = GroundingRecipe(resolution="square", sigma=0.0, stretched=False)
    found = measure(exam((10, 4, 6, 8), (8, 2, 6, 6)), GRID, recipe)
    ious = threshold_ious(upsample(GRID, (8, 8)), box_masks([[(2, 2, 3, 4)], [(1, 1, 3, 3)]], (8, 8)), stretched=False)
    assert found["miou"] == pytest.approx(ious.mean(dim=1).numpy(), rel=1e-5)
    for place, threshold in enumerate(("0.1", "0.2", "0.3", "0.4", "0.5")):
        assert found[f"iou_{threshold}"] == pytest.approx(ious[:, place].numpy(), rel=1e-5)


@pytest.mark.parametrize("average", ["micro", "category"])
def test_means_are_over_pairs_and_over_categories_with_patients_drawn_whole(average: str) -> None:
    # Twelve pairs of four patients: nine nodules and three effusions; one more pair was never seen.
    boxes = [(8 + row % 5, row % 4, 4 + row % 3, 5) for row in range(12)]
    own = exam(*boxes, (0, 0, 5, 5))
    own.pairs = tuple(
        Pair(pair.row, pair.phrase, "effusion" if pair.row % 4 == 0 else "nodule", pair.boxes) for pair in own.pairs
    )
    grids = torch.rand(13, 4, 4, generator=torch.Generator().manual_seed(2))
    own.features = lambda split, pairs: SimpleNamespace(pair_maps=grids)
    own.splits.test.patients = [f"p{row // 3}" for row in range(13)]
    own.splits.test.keys = [f"k{row}" for row in range(13)]
    recipe = GroundingRecipe(sigma=0.0, average=average)
    card = Card(task="grounding", data="any", headline="miou", grounding=recipe)
    figures: dict[str, Any] = dict(run(own, card, EvaluationConfig(resamples=100)).figures)

    values, effusion = measure(own, grids, recipe), np.arange(12) % 4 == 0
    bootstrap = Bootstrap(own.splits.test.patients[:12], resamples=100)
    assert (figures["pairs"], figures["pairs_outside_crop"]) == (12, 1)
    for name in ("miou", "cnr", "cnr_absolute", "pointing"):
        column = values[name][:12]
        parts = {"effusion": column[effusion].mean(), "nodule": column[~effusion].mean()}
        assert figures[f"{name}_by_finding"] == pytest.approx(parts)
        assert figures[f"{name}_micro"] == pytest.approx(column.mean())
        assert figures[f"{name}_macro"] == pytest.approx((parts["effusion"] + parts["nodule"]) / 2)
        assert figures[f"{name}_micro_interval"] == pytest.approx(bootstrap.interval(mean_statistic(column)))
        # Each pair's share of the mean over categories, as a weighted mean drawn by hand.
        drawn = [
            (weights @ (column * effusion) / (weights @ effusion) + weights @ (column * ~effusion) / (weights @ ~effusion))
            / 2
            for block in bootstrap._weights()
            for weights in block
        ]  # fmt: skip
        assert figures[f"{name}_macro_interval"] == pytest.approx(np.nanquantile(drawn, [0.025, 0.975]))
        kind = "micro" if average == "micro" else "macro"
        assert figures[name] == figures[f"{name}_{kind}"]
        assert figures[f"{name}_interval"] == figures[f"{name}_{kind}_interval"]
    for threshold in ("0.1", "0.5"):
        assert figures[f"iou_{threshold}"] == pytest.approx(values[f"iou_{threshold}"][:12].mean())
    assert figures["pointing_chance"] == pytest.approx(values["area"][:12].mean())
