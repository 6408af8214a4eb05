"""The exam's measures on data whose answer is known."""

from __future__ import annotations

import numpy as np
import torch

from msvl.data.phantom.exam import SmallNetwork, pixel_regression_auc


def test_pixel_regression_finds_what_pixels_show_and_nothing_else() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    images = rng.integers(0, 200, size=(500, 64, 64)).astype(np.uint8)
    labels = rng.integers(0, 2, size=(500, 2))
    images[labels[:, 0] == 1, 10:20, 10:20] += 50
    figures = pixel_regression_auc(images[:300], labels[:300], images[300:], labels[300:], names=("shown", "absent"))
    assert figures["shown"] > 0.97
    assert 0.35 < figures["absent"] < 0.65


def test_the_network_of_the_exam_maps_pictures_to_logits() -> None:
    network = SmallNetwork(width=192, depth=1, patches=16, outputs=5)
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
