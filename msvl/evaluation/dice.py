"""Dice of masks in the four flavours that papers print. They differ by tens of points on the same predictions.

N images, H and W their height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msvl.evaluation.bootstrap import Statistic
from msvl.evaluation.metrics import Floats, Ints


@dataclass(frozen=True)
class MaskCounts:
    """Pixels per image, which is all that any flavour needs; each [N]."""

    both: Ints
    """In the prediction and in the truth."""
    predicted: Ints
    truth: Ints
    pixels: Ints

    def __post_init__(self) -> None:
        """Check that the four columns belong together."""
        assert len(self.both) == len(self.predicted) == len(self.truth) == len(self.pixels)


def count_masks(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> MaskCounts:
    """Count the pixels of masks [N, H, W]."""
    predicted, truth = np.asarray(predicted, dtype=bool), np.asarray(truth, dtype=bool)
    axes = (1, 2)
    return MaskCounts(
        both=(predicted & truth).sum(axis=axes),
        predicted=predicted.sum(axis=axes),
        truth=truth.sum(axis=axes),
        pixels=np.full(len(truth), truth[0].size if len(truth) else 0, dtype=np.int64),
    )


def joined_counts(parts: list[MaskCounts]) -> MaskCounts:
    """Put the counts of several blocks of images behind each other."""
    columns = ("both", "predicted", "truth", "pixels")
    return MaskCounts(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def image_dice(counts: MaskCounts) -> Floats:
    """Return MaCo's and MRM's medDice per image [N]; its mean is flavour (a).

    An empty truth scores 1 when nothing is predicted and 0 otherwise, so that predicting nothing at all scores the share
    of healthy images.
    """
    size = counts.predicted + counts.truth
    overlap = 2.0 * counts.both / np.maximum(size, 1)
    return np.where(counts.truth == 0, (counts.predicted == 0).astype(np.float64), overlap)


def batched_statistic(counts: MaskCounts, batch: int) -> Statistic:
    """Return `batched_dice` as a statistic: images keep their batches, one without a drawn image is left out."""
    values = image_dice(counts)
    starts = range(0, len(values), batch)

    def statistic(weights: Floats) -> Floats:
        columns = []
        for start in starts:
            own = weights[:, start : start + batch]
            with np.errstate(invalid="ignore"):
                columns.append((own @ values[start : start + batch]) / own.sum(axis=1))
        means: Floats = np.nanmean(np.stack(columns, axis=1), axis=1)
        return means

    return statistic


def pooled_statistic(counts: MaskCounts) -> Statistic:
    """Return `pooled_dice` as a statistic."""
    table = np.stack([counts.both, counts.predicted, counts.truth, counts.pixels], axis=1).astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        both, predicted, truth, pixels = (weights @ table).T
        ends = (predicted + truth, 2 * pixels - predicted - truth)
        commons = (both, pixels - predicted - truth + both)
        classes = [
            np.where(end > 0, 2 * common / np.maximum(end, 1), np.nan)
            for common, end in zip(commons, ends, strict=True)
        ]
        means: Floats = np.nanmean(np.stack(classes), axis=0)
        return means

    return statistic


def batched_dice(counts: MaskCounts, batch: int) -> float:
    """Return flavour (b) of GLoRIA and MGCA: the mean over batches of their means; a short last batch weighs as a full one.

    Args:
        counts: In the order in which the images were judged.
        batch: Images per batch, which is part of the figure.
    """
    values = image_dice(counts)
    return float(np.mean([values[start : start + batch].mean() for start in range(0, len(values), batch)]))


def pooled_dice(counts: MaskCounts) -> float:
    """Return flavour (c) of BenchX: pixels of all images pooled, mean over background and foreground.

    A class that is nowhere, neither in truth nor in prediction, is left out of the mean.
    """
    both, predicted, truth, pixels = (
        int(column.sum()) for column in (counts.both, counts.predicted, counts.truth, counts.pixels)
    )
    neither = pixels - predicted - truth + both
    classes = ((both, predicted, truth), (neither, pixels - predicted, pixels - truth))
    return float(np.mean([2.0 * common / (one + other) for common, one, other in classes if one + other]))


def positive_dice(counts: MaskCounts) -> Floats:
    """Return flavour (d) of MedKLIP and PRIOR: per image with a mask, nan for the others [N]."""
    return np.where(counts.truth > 0, image_dice(counts), np.nan)


def empty_false_positives(counts: MaskCounts) -> Floats:
    """Return per image without a mask whether something was predicted all the same, nan for the others [N]."""
    return np.where(counts.truth == 0, (counts.predicted > 0).astype(np.float64), np.nan)
