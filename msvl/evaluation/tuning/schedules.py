"""Learning rates by step, as MRM and MaCo set them."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, steps: int, warmup: int) -> float:
    """Return the share of the peak at `step` (from 0): linear from 0 over `warmup` steps, then half a cosine to 0.

    The first step has rate 0, as in REFERS' WarmupCosineSchedule, which MRM and MaCo use.
    """
    if step < warmup:
        return step / warmup
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def warmup_linear(step: int, *, steps: int, warmup: int) -> float:
    """Return the share of the peak at `step`: linear from 1e-6 over `warmup` steps, then linear to 0 (mmseg's poly, power 1)."""
    decay = max(0.0, 1.0 - step / steps)
    if step < warmup:
        return decay * (1e-6 + (1 - 1e-6) * step / warmup)
    return decay
