"""Losses on masks, as MaCo weighs them: focal and soft Dice of the foreground.

B batch, K masks, H and W their size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GAMMA, ALPHA = 2.0, 0.25
"""Of the focal loss (Lin et al. 2017; mmseg's defaults)."""


def focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the focal loss, mean over pixels; logits [B, K, H, W], truth bool of the same shape."""
    target = truth.to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (torch.sigmoid(logits) - target).abs()
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    return (weight * wrong**GAMMA * entropy).mean()


def soft_dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - soft Dice per image and mask (smoothed by one pixel, so an empty truth is learnt too), mean over both."""
    said, target = torch.sigmoid(logits), truth.to(logits.dtype)
    both = (said * target).sum(dim=(2, 3))
    size = (said**2).sum(dim=(2, 3)) + (target**2).sum(dim=(2, 3))
    return (1 - (2 * both + 1) / (size + 1)).mean()


def mask_loss(logits: Tensor, truth: Tensor, *, focal: float, dice: float, cross_entropy: float) -> Tensor:
    """Return the weighted sum; logits are brought to the truth's size first."""
    logits = functional.interpolate(logits, size=truth.shape[-2:], mode="bilinear", align_corners=False)
    total = logits.new_zeros(())
    if focal:
        total = total + focal * focal_loss(logits, truth)
    if dice:
        total = total + dice * soft_dice_loss(logits, truth)
    if cross_entropy:
        total = total + cross_entropy * functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype))
    return total
