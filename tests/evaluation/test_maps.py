"""Grounding figures against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import jaccard_score

from msvl.data.images import Square
from msvl.evaluation.maps import (
    box_masks,
    contrast_to_noise,
    cosine_maps,
    mean_iou,
    place_in_image,
    pointing_hits,
    stretch,
    threshold_ious,
    upsample,
)


def test_cosine_maps_are_row_major_and_scale_free() -> None:
    patches = torch.zeros(1, 6, 2)
    patches[0, 4] = torch.tensor([3.0, 4.0])  # row 1, column 1 of a 2 x 3 grid
    maps = cosine_maps(patches, torch.tensor([[10.0, 0.0]]), (2, 3))
    assert maps.shape == (1, 2, 3)
    assert maps[0, 1, 1].item() == pytest.approx(0.6)
    assert maps.abs().sum().item() == pytest.approx(0.6)


def test_upsampling_keeps_the_centres_of_patches() -> None:
    maps = upsample(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), (4, 4))
    assert maps[0, 0].tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])  # align_corners would give 0, 1/3, 2/3, 1


def test_smoothing_agrees_with_scipy() -> None:
    grid = torch.rand(1, 14, 14, generator=torch.Generator().manual_seed(0))
    smooth = upsample(grid, (14, 14), sigma=1.5)[0]
    assert smooth.numpy() == pytest.approx(gaussian_filter(grid[0].numpy(), 1.5, mode="mirror"), abs=1e-3)


def test_smoothing_is_off_by_default() -> None:
    grid = torch.rand(1, 4, 4)
    assert torch.equal(upsample(grid, (4, 4)), grid)


def test_overlapping_boxes_are_a_union() -> None:
    mask = box_masks([[(0, 0, 2, 2), (1, 1, 2, 2)]], (4, 4))[0]
    assert mask.dtype == torch.bool
    assert mask.sum().item() == 7


def test_boxes_are_clipped_to_the_square() -> None:
    mask = box_masks([[(-5, 3, 100, 100)], [(10, 10, 5, 5)]], (4, 4))
    assert mask[0].int().tolist() == [[0] * 4] * 3 + [[1] * 4]
    assert not mask[1].any()


def test_a_pixel_belongs_to_the_box_that_covers_its_centre() -> None:
    mask = box_masks([[(0.6, 0.0, 1.0, 1.0)]], (1, 3))[0]
    assert mask[0].tolist() == [False, True, False]  # 0.6 ... 1.6 covers the centre 1.5 and not 0.5


def test_contrast_to_noise_by_hand() -> None:
    maps = torch.tensor([[[3.0, 5.0], [0.0, 2.0]]])
    masks = torch.tensor([[[True, True], [False, False]]])
    # Inside: mean 4, variance 1; outside: mean 1, variance 1.
    assert contrast_to_noise(maps, masks)[0].item() == pytest.approx(3 / math.sqrt(2))
    assert contrast_to_noise(-maps, masks)[0].item() == pytest.approx(-3 / math.sqrt(2))


def test_contrast_to_noise_of_a_constant_map_is_zero() -> None:
    masks = torch.tensor([[[True, False], [False, False]]])
    assert contrast_to_noise(torch.full((1, 2, 2), 0.3), masks)[0].item() == 0.0


def test_contrast_to_noise_is_undefined_without_an_outside() -> None:
    assert contrast_to_noise(torch.rand(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)).isnan().all()


def test_stretching_spans_minus_one_to_one_per_map() -> None:
    stretched = stretch(torch.tensor([[[0.0, 5.0], [10.0, 2.5]], [[1.0, 1.0], [1.0, 1.0]]]))
    assert stretched[0].tolist() == [[-1.0, 0.0], [1.0, -0.5]]
    assert stretched[1].tolist() == [[-1.0, -1.0], [-1.0, -1.0]]


def test_mean_iou_by_hand() -> None:
    # Stretched values: 1.0, 0.34, 0.0, -1.0; region: the first and the third pixel.
    maps = torch.tensor([[[1.0, 0.34], [0.0, -1.0]]])
    masks = torch.tensor([[[True, False], [True, False]]])
    # Thresholds .1 .2 .3 keep pixels 1 and 2 (IoU 1/3), .4 and .5 keep pixel 1 (IoU 1/2).
    assert mean_iou(maps, masks)[0].item() == pytest.approx((3 / 3 + 2 / 2) / 5)


def test_mean_iou_of_a_perfect_map_is_one() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, 2:4, 3:6] = True
    assert mean_iou(masks.float(), masks)[0].item() == 1.0


def test_pointing_shares_equal_maxima() -> None:
    masks = torch.tensor([[[True, False], [False, False]]])
    assert pointing_hits(torch.tensor([[[2.0, 1.0], [0.0, 0.0]]]), masks)[0].item() == 1.0
    assert pointing_hits(torch.zeros(1, 2, 2), masks)[0].item() == 0.25


def test_noise_maps_have_no_contrast_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(400, 16, 16, dtype=torch.bool)
    masks[:, 2:8, 3:9] = True
    values = contrast_to_noise(torch.randn(400, 16, 16, generator=generator), masks)
    assert abs(values.mean().item()) < 4 * values.std().item() / np.sqrt(400)


def test_ious_per_threshold_by_hand() -> None:
    maps = torch.tensor([[[1.0, 0.34], [0.0, -1.0]]])
    masks = torch.tensor([[[True, False], [True, False]]])
    assert threshold_ious(maps, masks)[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2])


def test_ious_are_scikit_learns_jaccard_scores() -> None:
    generator = torch.Generator().manual_seed(3)
    maps, masks = torch.rand(4, 6, 7, generator=generator), torch.rand(4, 6, 7, generator=generator) > 0.6
    found = threshold_ious(maps, masks)
    for row, (own, mask) in enumerate(zip(stretch(maps), masks, strict=True)):
        for place, threshold in enumerate((0.1, 0.2, 0.3, 0.4, 0.5)):
            expected = jaccard_score(mask.ravel(), own.ravel() > threshold)
            assert found[row, place].item() == pytest.approx(expected)


def test_raw_cosines_can_be_cut_instead() -> None:
    maps = torch.tensor([[[0.25, 0.12], [0.0, -0.5]]])
    masks = torch.tensor([[[True, False], [False, False]]])
    # Above .1 two pixels, above .2 one, above .3 none.
    assert threshold_ious(maps, masks, stretched=False)[0].tolist() == [0.5, 1.0, 0.0, 0.0, 0.0]


def test_a_value_on_the_threshold_is_not_above_it() -> None:
    maps, masks = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[True, False]]])
    assert threshold_ious(maps, masks, stretched=False)[0].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]


def test_a_map_lies_where_its_square_was() -> None:
    placed = place_in_image(torch.tensor([[[1.0]]]), Square(left=1, top=0, side=2), (2, 4))
    assert placed[0].isnan().tolist() == [[True, False, False, True]] * 2


@pytest.mark.evidence("Pixels outside the square that the model saw take part in no grounding figure", how="cpu")
def test_figures_are_those_of_the_square_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(3, 4, 4, generator=generator)
    square = Square(left=6, top=0, side=16)
    wide = place_in_image(grid, square, (16, 28))
    masks = torch.rand(3, 16, 28, generator=generator) > 0.7
    inner, inner_masks = wide[:, :, 6:22], masks[:, :, 6:22]
    for figure in (contrast_to_noise, mean_iou, pointing_hits):
        assert torch.allclose(figure(wide, masks), figure(inner, inner_masks)), figure.__name__
