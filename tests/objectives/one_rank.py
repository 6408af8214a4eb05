"""Run objectives in this process alone."""

from __future__ import annotations

import torch
from torch import nn

from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings
from msvl.objectives.gathering import gather_embeddings
from msvl.objectives.scale import ScaleOutput, StepContext


def run_scale(scale: nn.Module, embeddings: Embeddings, ids: SampleIds, *, step: int = 0) -> ScaleOutput:
    """Return what one scale says of a batch that is the whole global batch."""
    return scale(make_context(embeddings, ids, step=step))


def make_context(embeddings: Embeddings, ids: SampleIds, *, step: int = 0) -> StepContext:
    gathered = gather_embeddings(embeddings, ids, sentences=True)
    return StepContext(embeddings=embeddings, ids=ids, gathered=gathered, step=step)


def as_lists(ids: SampleIds) -> tuple[list[int], list[int], list[int]]:
    """Return what `reference.allowed_pairs` takes."""
    return ids.text.tolist(), ids.study.tolist(), ids.patient.tolist()


def close(value: torch.Tensor, expected: torch.Tensor, *, tolerance: float = 1e-9) -> bool:
    """Whether two float64 values agree: the rest is the order of the sums, and the fp32 of a logit scale."""
    return bool((value - expected).norm() <= tolerance * (1 + expected.norm()))
