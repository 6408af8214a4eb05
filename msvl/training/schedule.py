"""Learning rate as a pure function of the step."""

from __future__ import annotations

import math


def cosine_lr(step: int, *, peak: float, warmup_steps: int, steps: int, final_share: float) -> float:
    """Return the learning rate of optimizer step `step` (counted from 0).

    Linear from peak / warmup_steps to `peak` over the warm-up, then half a cosine down to `peak * final_share`.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return peak * (final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress)))
