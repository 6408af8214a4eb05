"""What the objectives see of the other ranks: one gather for both global embeddings, one for the sentences.

b pairs of this rank, G = W * b pairs of all ranks, S sentence capacity, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msvl.collectives.gather import gather, gather_constant
from msvl.collectives.world import rank
from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings
from msvl.objectives.blocks import PairRows, row_blocks
from msvl.objectives.precision import full_precision


@dataclass(frozen=True)
class Gathered:
    """Embeddings and identities of the global batch, rank by rank, with gradient home to the rank that made them."""

    image: Tensor
    """[G, C] unit length."""
    text: Tensor
    """[G, C] unit length."""
    sentences: Tensor | None
    """[G, S, C]; None when no objective asks for them."""
    sentence_mask: Tensor
    """[G, S] bool."""
    ids: SampleIds
    """Of all samples: each [G]."""
    own: Tensor
    """[b] places of this rank's pairs among the G."""
    own_ids: SampleIds
    """Of this rank's samples: each [b]."""

    def allowed(self, rows: slice = slice(None)) -> Tensor:
        """Return [r, G] bool for these own pairs: False where another sample shares report text, text read, study or patient."""
        own = self.own[rows]
        same = torch.zeros(len(own), len(self.ids.sample), dtype=torch.bool, device=own.device)
        for name in ("text", "read", "study", "patient"):
            same |= getattr(self.own_ids, name)[rows].unsqueeze(1) == getattr(self.ids, name)
        return (~same).scatter_(1, own.unsqueeze(1), True)

    def reading_the_same(self, rows: slice = slice(None)) -> Tensor:
        """Return [r, G] bool for these own pairs: pairs that read the same text, each pair's own place among them."""
        return self.own_ids.read[rows].unsqueeze(1) == self.ids.read.unsqueeze(0)

    def taking_part(self, duplicates: str) -> tuple[PairRows | None, PairRows | None]:
        """Return which pairs stand in a denominator and which are positives; None is all, and the own pair alone.

        Args:
            duplicates: 'exclude', 'positive' or 'keep', see `DUPLICATES_DOC`.
        """
        if duplicates == "keep":
            return None, None
        if duplicates == "exclude":
            return self.allowed, None
        return (lambda rows=slice(None): self.allowed(rows) | self.reading_the_same(rows)), self.reading_the_same

    def allowed_share(self) -> Tensor:
        """Return the share of pairs that are allowed, block by block."""
        counts = [self.allowed(block).sum() for block in row_blocks(len(self.own), len(self.ids.sample))]
        return torch.stack(counts).sum() / (len(self.own) * len(self.ids.sample))


def gather_embeddings(embeddings: Embeddings, ids: SampleIds, *, sentences: bool) -> Gathered:
    """Collective. Gather what the cross-sample terms contrast against, at least in fp32.

    Args:
        embeddings: This rank's.
        ids: This rank's.
        sentences: Whether the sentence embeddings are needed too.
    """
    b = embeddings.image.shape[0]
    both = gather(torch.stack([full_precision(embeddings.image), full_precision(embeddings.text)], dim=1))
    all_ids = SampleIds.unstack(gather_constant(ids.stacked()))
    # Unlike two slices, whose gradients are two matrices of [G, 2, C] to be added, `unbind` makes one.
    image, text = both.unbind(dim=1)
    own = torch.arange(b, device=both.device) + rank() * b
    return Gathered(
        image=image,
        text=text,
        sentences=gather(full_precision(embeddings.sentences)) if sentences else None,
        sentence_mask=gather_constant(embeddings.sentence_mask),
        ids=all_ids,
        own=own,
        own_ids=ids,
    )
