"""What one rank gets per step: images, tokenised reports and the identities that the losses need.

B samples of this rank, L tokens (the longest report of these B), S sentence capacity (fixed by the configuration: sentences
are gathered across ranks, tokens are not).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from msvl.data.faults import Fill


@dataclass(frozen=True)
class SampleIds:
    """Identities as 63-bit integers (hashes), the same in every process: each [B] int64."""

    sample: Tensor
    text: Tensor
    """Hash of the normalised report text: equal text, equal id."""
    read: Tensor
    """Hash of the sentences that this step reads of the report, in any order."""
    study: Tensor
    patient: Tensor

    def stacked(self) -> Tensor:
        """Return [B, 5] in the order of the fields, for one gather."""
        return torch.stack([getattr(self, item.name) for item in fields(self)], dim=1)

    @classmethod
    def unstack(cls, stacked: Tensor) -> SampleIds:
        """Undo `stacked`."""
        return cls(*stacked.unbind(dim=1))


@dataclass(frozen=True)
class Tokens:
    """Tokenised reports, padded to fixed capacities."""

    input_ids: Tensor
    """[B, L] int64."""
    attention_mask: Tensor
    """[B, L] int64, 1 for tokens, 0 for padding."""
    sentence_index: Tensor
    """[B, L] int64: the sentence (0 ... S-1) that a token belongs to, -1 for special tokens and padding."""
    sentence_mask: Tensor
    """[B, S] bool: which sentence places are filled; row sums are the sentence counts (at least 1)."""

    def trimmed(self, multiple: int = 8) -> Tokens:
        """Return the same reports without the columns that are padding in all of them, L a multiple of `multiple`."""
        longest = int(self.attention_mask.sum(dim=1).max())
        length = min(-(-longest // multiple) * multiple, self.input_ids.shape[1])
        columns = {name: getattr(self, name)[:, :length] for name in ("input_ids", "attention_mask", "sentence_index")}
        return replace(self, **columns)


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    images: Tensor
    """[B, 1, H, W] uint8, grey; the model standardises them on its device."""
    tokens: Tokens
    ids: SampleIds
    keys: tuple[str, ...]
    step: int
    """Optimizer step, counted from 0: keys masks and noise together with the run's seed and `ids.sample`."""
    shown: tuple[str, ...] = ()
    """What names each sample in logs: its key, or its number where keys may be ids of patients; [B]."""
    fills: tuple[Fill, ...] = ()
    """Places that were filled by a substitute and are in no event file yet."""

    def split(self, parts: int) -> list[Batch]:
        """Return `parts` micro-batches of equal size, in order."""
        size = len(self.keys) // parts

        def rows(part: Any, block: slice) -> Any:
            return replace(part, **{item.name: getattr(part, item.name)[block] for item in fields(part)})

        return [
            replace(
                self,
                images=self.images[block],
                tokens=rows(self.tokens, block),
                ids=rows(self.ids, block),
                keys=self.keys[block],
                shown=self.shown[block],
            )
            for block in (slice(number * size, (number + 1) * size) for number in range(parts))
        ]

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to `device`."""

        def moved(part: Any) -> Any:
            return replace(
                part, **{item.name: getattr(part, item.name).to(device, non_blocking=True) for item in fields(part)}
            )

        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, tokens=moved(self.tokens), ids=moved(self.ids))
