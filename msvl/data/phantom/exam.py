"""How hard the phantom is: an exam must defeat a linear model on pixels and be passed by a supervised network.

N images, K findings, H, W.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from msvl.data.phantom.parameters import FINDINGS

THUMBNAIL = 32
STRENGTHS = (3e-5, 3e-4, 3e-3)
"""Candidates for the regression's C; 1,024 correlated pixels want strong regularisation."""

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def pixel_regression_auc(
    train_images: Images,
    train_labels: Labels,
    test_images: Images,
    test_labels: Labels,
    *,
    names: Sequence[str] = FINDINGS,
) -> dict[str, float]:
    """Return the AUC per finding of logistic regression on standardised 32 x 32 thumbnails.

    C is chosen per finding on the last sixth of the training images, so that the figure is fair.

    Args:
        train_images: [N, H, W].
        train_labels: [N, K] of 0 and 1, columns as in `names`.
        test_images: [M, H, W].
        test_labels: [M, K].
        names: Findings.
    """
    scaler = StandardScaler().fit(_thumbnails(train_images))
    train, test = scaler.transform(_thumbnails(train_images)), scaler.transform(_thumbnails(test_images))
    cut = len(train) - len(train) // 6
    figures = {}
    for column, name in enumerate(names):
        target = train_labels[:, column]
        tried = {
            strength: roc_auc_score(
                target[cut:], _regression(train[:cut], target[:cut], strength).decision_function(train[cut:])
            )
            for strength in STRENGTHS
        }
        best = max(tried, key=lambda strength: tried[strength])
        scores = _regression(train, target, best).decision_function(test)
        figures[name] = float(roc_auc_score(test_labels[:, column], scores))
    return figures


@dataclass(frozen=True)
class Schooling:
    """How the supervised network is trained."""

    side: int = 112
    epochs: int = 4
    batch: int = 64
    learning_rate: float = 5e-4
    warm_up_steps: int = 40
    width: int = 192
    depth: int = 3
    seed: int = 0


def supervised_auc(
    train_images: Images,
    train_labels: Labels,
    test_images: Images,
    test_labels: Labels,
    *,
    names: Sequence[str] = FINDINGS,
    schooling: Schooling | None = None,
) -> tuple[dict[str, float], float]:
    """Train a network of the quickstart's size on the labels themselves.

    Args:
        train_images: [N, H, W].
        train_labels: [N, K].
        test_images: [M, H, W].
        test_labels: [M, K].
        names: Findings.
        schooling: Settings of the training.

    Returns:
        AUC per finding, and the seconds of training.
    """
    chosen = schooling or Schooling()
    start = time.perf_counter()
    train, test = _pixels(train_images, chosen.side), _pixels(test_images, chosen.side)
    mean, deviation = train.mean(), train.std()
    network = _trained((train - mean) / deviation, torch.from_numpy(train_labels).float(), chosen)
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        scores = torch.cat([network(part) for part in ((test - mean) / deviation).split(100)]).numpy()
    return {name: float(roc_auc_score(test_labels[:, k], scores[:, k])) for k, name in enumerate(names)}, seconds


class SmallNetwork(nn.Module):
    """A convolutional stem (four overlapping stride-2 convolutions) and a small vision transformer."""

    def __init__(self, *, width: int, depth: int, patches: int, outputs: int) -> None:
        """Build for a fixed number of patches."""
        super().__init__()
        channels = (1, width // 8, width // 4, width // 2, width)
        self.stem = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU())
                for before, after in zip(channels, channels[1:], strict=False)
            ),
            nn.Conv2d(width, width, 1),
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, patches, width))
        layer = nn.TransformerEncoderLayer(
            width, 3, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map [B, 1, H, W] to logits [B, K]."""
        tokens = rearrange(self.stem(pixels), "b f rows columns -> b (rows columns) f") + self.positions
        return self.head(self.blocks(tokens).mean(dim=1))


def _trained(pixels: Tensor, labels: Tensor, chosen: Schooling) -> SmallNetwork:
    generator = torch.Generator().manual_seed(chosen.seed)
    torch.manual_seed(chosen.seed)
    network = SmallNetwork(
        width=chosen.width, depth=chosen.depth, patches=(chosen.side // 16) ** 2, outputs=labels.shape[1]
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=chosen.learning_rate, weight_decay=0.05)
    steps = chosen.epochs * (len(pixels) // chosen.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / chosen.warm_up_steps, 0.5 * (1 + np.cos(np.pi * step / steps))),
    )
    for _ in range(chosen.epochs):
        for batch in torch.randperm(len(pixels), generator=generator).split(chosen.batch)[
            : len(pixels) // chosen.batch
        ]:
            loss = functional.binary_cross_entropy_with_logits(network(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()


def _regression(pixels: NDArray[np.float64], target: Labels, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=300).fit(pixels, target)


def _thumbnails(images: Images) -> NDArray[np.float64]:
    small = [cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).reshape(-1) for image in images]
    return np.stack(small).astype(np.float64) / 255


def _pixels(images: Images, side: int) -> Tensor:
    small = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])
    return torch.from_numpy(small[:, None].astype(np.float32) / 255)
