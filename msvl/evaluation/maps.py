"""Phrase grounding: from phrase-patch cosines to a map at image resolution, and how well it agrees with a region.

P pairs of phrase and image, N patches, H and W image height and width, C channels.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

MIOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""On maps stretched to [-1, 1] per image (MaCo's `eval/metric.py`)."""


def cosine_maps(patches: Tensor, phrases: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the cosine between each phrase and the patches of its image.

    Args:
        patches: [P, N, C], row-major over `grid`.
        phrases: [P, C].
        grid: Rows and columns of patches.

    Returns:
        [P, rows, columns] in [-1, 1].
    """
    rows, columns = grid
    cosines = torch.einsum(
        "pnc,pc->pn", functional.normalize(patches.float(), dim=-1), functional.normalize(phrases.float(), dim=-1)
    )
    return rearrange(cosines, "p (rows columns) -> p rows columns", rows=rows, columns=columns)


def upsample(maps: Tensor, size: tuple[int, int], *, sigma: float = 0.0) -> Tensor:
    """Bring maps to image resolution: bilinear, pixel centres aligned (align_corners off).

    Args:
        maps: [P, rows, columns].
        size: H, W.
        sigma: Gaussian on the grid beforehand, in patches (BioViL, MaCo: 1.5 on 14 x 14); 0 is none. Borders reflect.

    Returns:
        [P, H, W].
    """
    channels = rearrange(maps, "p rows columns -> p 1 rows columns")
    if sigma > 0:
        channels = _smooth(channels, sigma)
    return rearrange(
        functional.interpolate(channels, size=size, mode="bilinear", align_corners=False), "p 1 h w -> p h w"
    )


def _smooth(channels: Tensor, sigma: float) -> Tensor:
    radius = min(math.ceil(4 * sigma), min(channels.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=channels.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(channels, (radius, radius, radius, radius), mode="reflect")
    rows = functional.conv2d(padded, rearrange(kernel, "k -> 1 1 k 1"))
    return functional.conv2d(rows, rearrange(kernel, "k -> 1 1 1 k"))


def box_masks(boxes: list[list[tuple[float, float, float, float]]], size: tuple[int, int]) -> Tensor:
    """Return the union of each pair's boxes as a boolean mask.

    A union, not a sum: MaCo adds overlapping boxes, and pixels of value 2 then fall out of both regions.

    Args:
        boxes: Per pair, (x, y, w, h) in pixels of the map, clipped to it. A pixel belongs to a box over its centre.
        size: H, W.

    Returns:
        [P, H, W] bool.
    """
    height, width = size
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, regions in zip(masks, boxes, strict=True):
        for x, y, w, h in regions:
            top, bottom = max(0, math.ceil(y - 0.5)), min(height, math.ceil(y + h - 0.5))
            left, right = max(0, math.ceil(x - 0.5)), min(width, math.ceil(x + w - 0.5))
            mask[top:bottom, left:right] = True
    return masks


def contrast_to_noise(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the signed contrast-to-noise ratio (mean_in - mean_out) / sqrt(var_in + var_out) per pair.

    Signed as in MaCo's code; BioViL's definition takes the absolute value, which rewards a map that is all wrong.
    Population variances; 0 where both are 0.

    Args:
        maps: [P, H, W].
        masks: [P, H, W] bool.

    Returns:
        [P]; nan where a mask is empty or full.
    """
    values = rearrange(maps, "p h w -> p (h w)").double()
    inside = rearrange(masks, "p h w -> p (h w)").double()
    mean_in, var_in = _moments(values, inside)
    mean_out, var_out = _moments(values, 1 - inside)
    noise = torch.sqrt(var_in + var_out)
    return torch.where(noise > 1e-12, (mean_in - mean_out) / noise.clamp(min=1e-12), noise * 0)


def _moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    total = weights.sum(dim=1)
    mean = (values * weights).sum(dim=1) / total
    variance = ((values - mean[:, None]) ** 2 * weights).sum(dim=1) / total
    return mean, variance


def stretch(maps: Tensor) -> Tensor:
    """Stretch each map to [-1, 1] by its own minimum and maximum; a constant map becomes -1 everywhere."""
    low = maps.amin(dim=(1, 2), keepdim=True)
    high = maps.amax(dim=(1, 2), keepdim=True)
    return 2 * (maps - low) / (high - low).clamp(min=1e-12) - 1


def mean_iou(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the intersection over union of each pair, averaged over MIOU_THRESHOLDS (MaCo's flavour).

    Each map is stretched to [-1, 1], then cut at each threshold; the mean over pairs of this is MaCo's printed mIoU.

    Returns:
        [P] in [0, 1].
    """
    stretched = stretch(maps)
    ious = []
    for threshold in MIOU_THRESHOLDS:
        predicted = stretched > threshold
        intersection = (predicted & masks).sum(dim=(1, 2))
        union = (predicted | masks).sum(dim=(1, 2))
        ious.append(intersection / union.clamp(min=1))
    return torch.stack(ious).mean(dim=0)


def pointing_hits(maps: Tensor, masks: Tensor) -> Tensor:
    """Return per pair whether the largest value lies in the region: [P] float, shared evenly among equal maxima."""
    values = rearrange(maps, "p h w -> p (h w)")
    largest = values == values.amax(dim=1, keepdim=True)
    inside = rearrange(masks, "p h w -> p (h w)")
    return (largest & inside).sum(dim=1) / largest.sum(dim=1)
