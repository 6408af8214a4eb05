"""Phrase grounding: from phrase-patch cosines to a map at image resolution, and how well it agrees with a region.

P pairs of phrase and image, N patches, H and W image height and width, C channels. Where a map is NaN the model saw
nothing (outside the square that it was shown): such pixels take part in no figure.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from msvl.data.images import Square

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


def place_in_image(maps: Tensor, square: Square, size: tuple[int, int], *, sigma: float = 0.0) -> Tensor:
    """Put the maps of one image back where its square was cut out; NaN outside (hi-ml's convention).

    Args:
        maps: [P, rows, columns].
        square: The square that the model saw, in pixels of the image.
        size: H, W of the image.
        sigma: As in `upsample`.

    Returns:
        [P, H, W].
    """
    side, top, left = round(square.side), round(square.top), round(square.left)
    placed = maps.new_full((len(maps), *size), math.nan)
    placed[:, top : top + side, left : left + side] = upsample(maps, (side, side), sigma=sigma)
    return placed


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
    seen = rearrange(maps.isfinite(), "p h w -> p (h w)")
    values = rearrange(maps.nan_to_num(nan=0.0), "p h w -> p (h w)").double()
    inside = rearrange(masks, "p h w -> p (h w)") & seen
    mean_in, var_in = _moments(values, inside.double())
    mean_out, var_out = _moments(values, (seen & ~inside).double())
    noise = torch.sqrt(var_in + var_out)
    return torch.where(noise > 1e-12, (mean_in - mean_out) / noise.clamp(min=1e-12), noise * 0)


def _moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    total = weights.sum(dim=1)
    mean = (values * weights).sum(dim=1) / total
    variance = ((values - mean[:, None]) ** 2 * weights).sum(dim=1) / total
    return mean, variance


def stretch(maps: Tensor) -> Tensor:
    """Stretch each map to [-1, 1] by its own minimum and maximum; a constant map becomes -1 everywhere."""
    low = maps.nan_to_num(nan=math.inf).amin(dim=(1, 2), keepdim=True)
    high = maps.nan_to_num(nan=-math.inf).amax(dim=(1, 2), keepdim=True)
    return 2 * (maps - low) / (high - low).clamp(min=1e-12) - 1


def threshold_ious(maps: Tensor, masks: Tensor, *, stretched: bool = True) -> Tensor:
    """Return the intersection over union of each pair at each of MIOU_THRESHOLDS.

    Args:
        maps: [P, H, W].
        masks: [P, H, W] bool.
        stretched: Stretch each map to [-1, 1] first (MaCo); False cuts the cosines themselves (BioViL).

    Returns:
        [P, thresholds] in [0, 1].
    """
    values = stretch(maps) if stretched else maps
    region = masks & maps.isfinite()
    ious = []
    for threshold in MIOU_THRESHOLDS:
        predicted = values > threshold
        intersection = (predicted & region).sum(dim=(1, 2))
        union = (predicted | region).sum(dim=(1, 2))
        ious.append(intersection / union.clamp(min=1))
    return torch.stack(ious, dim=1)


def mean_iou(maps: Tensor, masks: Tensor, *, stretched: bool = True) -> Tensor:
    """Return `threshold_ious` averaged over the thresholds; the mean over pairs of this is MaCo's printed mIoU: [P]."""
    return threshold_ious(maps, masks, stretched=stretched).mean(dim=1)


def pointing_hits(maps: Tensor, masks: Tensor) -> Tensor:
    """Return per pair whether the largest value lies in the region: [P] float, shared evenly among equal maxima."""
    values = rearrange(maps.nan_to_num(nan=-math.inf), "p h w -> p (h w)")
    largest = values == values.amax(dim=1, keepdim=True)
    inside = rearrange(masks, "p h w -> p (h w)")
    return (largest & inside).sum(dim=1) / largest.sum(dim=1)
