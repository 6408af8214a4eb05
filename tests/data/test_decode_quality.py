"""Scaled decoding, as training does it, beside a full decode with antialiasing: on real radiographs (noise costs decibels)."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.data.images import decode_jpeg, encode_jpeg, evaluation_image, shrink

RADIOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "data" / "covid-cxr" / "images"
SIZE = 224


def antialiased(image: np.ndarray, size: int) -> np.ndarray:
    """Resize [S, S] by a triangle filter as wide as a target pixel, in float64: what Pillow and torch call antialiased."""
    scale = image.shape[0] / size
    weights = np.zeros((size, image.shape[0]))
    for row in range(size):
        centre = (row + 0.5) * scale
        low, high = max(0, math.floor(centre - scale)), min(image.shape[0], math.ceil(centre + scale))
        distances = np.abs(np.arange(low, high) + 0.5 - centre) / scale
        weights[row, low:high] = np.maximum(0, 1 - distances)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ image.astype(np.float64) @ weights.T


def test_the_filter_is_that_of_pillow() -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (96, 96)).astype(np.uint8), (5, 5), 1)
    theirs = np.asarray(pillow.fromarray(image).resize((40, 40), pillow.Resampling.BILINEAR), dtype=np.float64)
    assert np.abs(theirs - antialiased(image, 40)).max() < 1.1, "theirs is rounded twice"


@pytest.mark.evidence(
    "Scaled decoding at 224 px is within 46 dB (median) and 0.2 grey levels of a full antialiased decode, on real radiographs",
    how="cpu",
)
def test_scaled_decoding_costs_little_on_real_radiographs() -> None:
    files = sorted(RADIOGRAPHS.glob("*.jpg"))
    if not files:
        pytest.skip("the real radiographs of ../shared/data/covid-cxr are not here: nothing to measure on")
    decibels, biases = [], []
    for file in files[::2]:
        # As packed: 512 px, JPEG.
        data = encode_jpeg(shrink(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), 512))
        whole = decode_jpeg(data)
        if min(whole.shape) < 2 * SIZE:
            continue
        side = min(whole.shape)
        top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
        expected = antialiased(whole[top : top + side, left : left + side], SIZE)
        difference = evaluation_image(data, SIZE).astype(np.float64) - expected
        decibels.append(10 * math.log10(255**2 / np.mean(difference**2)))
        biases.append(difference.mean())
    assert len(decibels) > 50
    assert np.median(decibels) >= 46, f"median {np.median(decibels):.2f} dB"
    assert abs(np.median(biases)) < 0.2, f"bias {np.median(biases):+.3f} grey levels"
