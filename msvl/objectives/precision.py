"""In which precision losses are computed: never below fp32, whatever the encoders use.

The matching head of the instance scale alone is a network with weights, and runs in their type.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(value: Tensor) -> Tensor:
    """Return bf16 and fp16 as fp32, and anything else as it is.

    Logits reach 100, where bf16 steps by 0.5; fp64 stays, so that finite differences can check the gradients.
    """
    return value.to(torch.promote_types(value.dtype, torch.float32))


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast does not turn products into half precision."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
