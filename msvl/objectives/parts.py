"""The tensors of `Embeddings` that carry gradients, by name: for caching and joining micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from msvl.models.outputs import Embeddings
from msvl.objectives.reconstruction import ReconstructionSums

DIFFERENTIABLE = ("image", "text", "patches", "sentences", "masked_image", "masked_text")
DIFFERENTIABLE_SUMS = ("error", "token_loss")


def differentiable(embeddings: Embeddings) -> dict[str, Tensor]:
    """Return what carries gradients of summarised embeddings, by name; shapes as in `Embeddings` and `ReconstructionSums`."""
    found = {name: getattr(embeddings, name) for name in DIFFERENTIABLE}
    sums = embeddings.reconstruction
    if sums is not None:
        found |= {name: getattr(sums, name) for name in DIFFERENTIABLE_SUMS}
    return {name: value for name, value in found.items() if value is not None}


def with_differentiable(embeddings: Embeddings, tensors: Mapping[str, Tensor]) -> Embeddings:
    """Return the embeddings with these tensors in the place of their own."""
    sums = embeddings.reconstruction
    if sums is not None:
        sums = replace(sums, **{name: tensors[name] for name in DIFFERENTIABLE_SUMS})
    own = {name: tensors[name] for name in DIFFERENTIABLE if name in tensors}
    return replace(embeddings, reconstruction=sums, **own)


def joined(parts: Sequence[Embeddings]) -> Embeddings:
    """Return the summarised embeddings of several micro-batches as those of one batch, in their order."""
    sums = [part.reconstruction for part in parts]
    together = None
    if all(isinstance(item, ReconstructionSums) for item in sums):
        together = ReconstructionSums(
            *(torch.cat([getattr(item, field.name) for item in sums]) for field in fields(ReconstructionSums))
        )
    whole = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(Embeddings)
        if field.name != "reconstruction" and getattr(parts[0], field.name) is not None
    }
    return Embeddings(**whole, reconstruction=together)
