"""Grounding at the stored image's resolution: what was cut off counts nowhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from msvl.evaluation.maps import box_masks, contrast_to_noise, mean_iou, pointing_hits, upsample
from msvl.evaluation.material import Pair
from msvl.evaluation.protocol_tasks.grounding import REFERENCE_GRID, measure
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
