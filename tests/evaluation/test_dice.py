"""The four Dice flavours against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from msvl.evaluation.bootstrap import known_mean_statistic
from msvl.evaluation.dice import (
    MaskCounts,
    batched_dice,
    batched_statistic,
    count_masks,
    empty_false_positives,
    image_dice,
    joined_counts,
    pooled_dice,
    pooled_statistic,
    positive_dice,
)


def counts(*rows: tuple[int, int, int]) -> MaskCounts:
    """Rows of (both, predicted, truth) of images with 100 pixels."""
    columns = np.array(rows).T
    return MaskCounts(*columns, np.full(len(rows), 100))


# Half hit; empty and left empty; empty and marked; missed.
FOUR = counts((10, 20, 20), (0, 0, 0), (0, 4, 0), (0, 0, 6))


def test_pixels_are_counted_per_image() -> None:
    truth = np.zeros((2, 2, 3), dtype=bool)
    truth[0, 0] = True
    predicted = np.zeros_like(truth)
    predicted[:, :, 0] = True
    found = count_masks(predicted, truth)
    assert (found.both.tolist(), found.predicted.tolist(), found.truth.tolist()) == ([1, 0], [2, 2], [3, 0])
    assert found.pixels.tolist() == [6, 6]


@pytest.mark.evidence("Dice in four flavours, empty masks included, equals cases computed by hand", how="cpu")
def test_image_dice_scores_an_empty_truth_by_silence() -> None:
    assert image_dice(FOUR).tolist() == [0.5, 1.0, 0.0, 0.0]


def test_predicting_nothing_scores_the_share_of_healthy_images() -> None:
    silent = counts((0, 0, 5), (0, 0, 0), (0, 0, 0), (0, 0, 0))
    assert image_dice(silent).mean() == 0.75
    assert np.nanmean(positive_dice(silent)) == 0.0


def test_batches_weigh_the_same_whatever_their_size() -> None:
    # Batches (0.5, 1, 0) and (0): means 0.5 and 0.
    assert batched_dice(FOUR, 3) == pytest.approx(0.25)
    assert batched_dice(FOUR, 4) == pytest.approx(image_dice(FOUR).mean())


def test_resampled_figures_are_those_of_the_drawn_images() -> None:
    # Images 0, 0, 3 drawn: the first two batches of two are (0, 0) and (3), the pooled pixels are those of three images.
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 0, 1]])
    drawn = counts((10, 20, 20), (10, 20, 20), (0, 0, 6))
    assert pooled_statistic(FOUR)(weights).tolist() == pytest.approx([pooled_dice(FOUR), pooled_dice(drawn)])
    assert batched_statistic(FOUR, 2)(weights).tolist() == pytest.approx([batched_dice(FOUR, 2), (0.5 + 0.0) / 2])
    assert known_mean_statistic(positive_dice(FOUR))(weights).tolist() == pytest.approx([0.25, 1.0 / 3])
    assert np.isnan(known_mean_statistic(positive_dice(FOUR))(np.array([[0.0, 1, 1, 0]]))).all()
    assert known_mean_statistic(empty_false_positives(FOUR))(weights[:1]).tolist() == [0.5]


def test_pooled_dice_of_nothing_at_all_is_that_of_the_background() -> None:
    silent = counts((0, 0, 0), (0, 0, 0))
    assert pooled_statistic(silent)(np.ones((1, 2))).tolist() == [pooled_dice(silent)] == [1.0]


def test_pooled_dice_is_the_mean_of_foreground_and_background() -> None:
    # Foreground 2 * 10 / (24 + 26); background: 360 of 376 and 374.
    assert pooled_dice(FOUR) == pytest.approx((20 / 50 + 2 * 360 / (376 + 374)) / 2)


def test_pooled_dice_leaves_out_a_class_that_is_nowhere() -> None:
    assert pooled_dice(counts((0, 0, 0))) == 1.0


def test_positives_and_empty_images_are_told_apart() -> None:
    assert positive_dice(FOUR)[[0, 3]].tolist() == [0.5, 0.0]
    assert np.isnan(positive_dice(FOUR)[1:3]).all()
    assert empty_false_positives(FOUR)[1:3].tolist() == [0.0, 1.0]
    assert np.isnan(empty_false_positives(FOUR)[[0, 3]]).all()


@pytest.mark.evidence("Dice per image and pooled equals scikit-learn's F1 of the pixels", how="cpu")
def test_dice_is_scikit_learns_f1_of_pixels() -> None:
    generator = np.random.default_rng(2)
    predicted, truth = generator.random((6, 9, 8)) > 0.6, generator.random((6, 9, 8)) > 0.7
    truth[:2] = False
    predicted[0] = False  # empty and left empty, empty and marked
    found = count_masks(predicted, truth)
    each = [f1_score(own.ravel(), said.ravel(), zero_division=1.0) for own, said in zip(truth, predicted, strict=True)]
    assert image_dice(found) == pytest.approx(np.array(each))
    assert pooled_dice(found) == pytest.approx(f1_score(truth.ravel(), predicted.ravel(), average="macro"))


def test_blocks_join_to_the_whole() -> None:
    generator = np.random.default_rng(0)
    predicted, truth = generator.random((2, 7, 5, 5)) > 0.5
    whole = count_masks(predicted, truth)
    parts = joined_counts([count_masks(predicted[:3], truth[:3]), count_masks(predicted[3:], truth[3:])])
    assert image_dice(parts).tolist() == image_dice(whole).tolist()
    assert pooled_dice(parts) == pooled_dice(whole)
