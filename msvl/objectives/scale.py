"""What every objective takes and gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings
from msvl.objectives.gathering import Gathered
from msvl.objectives.precision import full_precision

MAX_LOGIT_SCALE = math.log(100.0)
"""CLIP's clamp: logits never exceed 100."""


@dataclass(frozen=True)
class StepContext:
    """A rank's share of one step, and what it gathered from the others."""

    embeddings: Embeddings
    ids: SampleIds
    gathered: Gathered
    step: int


@dataclass(frozen=True)
class ScaleOutput:
    """A scale's loss and what is worth logging beside it."""

    loss: Tensor
    """Local scalar whose mean over ranks is the global loss."""
    metrics: dict[str, Tensor]
    """Local scalars whose mean over ranks is the global value."""


class LogitScale(nn.Module):
    """A learnable 1 / temperature, kept as its logarithm; shape [1], because DeepSpeed refuses 0-D parameters."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor([math.log(1.0 / temperature)]))

    def forward(self) -> Tensor:
        """Return exp(log scale), at most 100: [1]. Above the limit there is no gradient, as in CLIP's clamp."""
        return full_precision(self.logit_scale).clamp(max=MAX_LOGIT_SCALE).exp()
