"""How easy is the exam? The linear probe's classifier on the bare pixels of a 32 x 32 thumbnail."""

from __future__ import annotations

import cv2
import numpy as np
from einops import rearrange
from torch import Tensor

from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.material import Figures, Material
from msvl.evaluation.metrics import Floats
from msvl.evaluation.tasks.linear_probe import checked_probe, logistic_figures

SIDE = 32
"""Pixels of the thumbnail's side."""


def run(material: Material, config: EvaluationConfig) -> Figures:
    """Return the AUC per finding and its mean, of the probe on pixels: a model that has learnt must be above.

    Raises:
        DataError: As the linear probe.
    """
    probe = checked_probe(material, task="the pixel baseline")
    figures = logistic_figures(thumbnails(probe.images), thumbnails(material.images), material, probe, config=config)
    return figures | {"side": SIDE}


def thumbnails(images: Tensor) -> Floats:
    """Average images [N, 1, H, W] uint8 over blocks: [N, 32 * 32] grey values in [0, 1]."""
    planes = rearrange(images.numpy(), "n 1 h w -> n h w")
    small = np.stack([cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for plane in planes])
    return rearrange(small, "n h w -> n (h w)").astype(np.float64) / 255
