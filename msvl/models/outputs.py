"""What the model hands to the objectives, which see nothing else of it.

B local batch, N patches, S sentence capacity, C shared channels, M masked patches per image, K masked-token capacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Reconstruction:
    """What the two decoders predict about what was masked."""

    patch_prediction: Tensor
    """[B, M, D] predicted pixels of the masked patches (D = pixels per patch), in normalised units."""
    patch_target: Tensor
    """[B, M, D] true ones, normalised per patch when `model.image.normalise_target` is on."""
    token_logits: Tensor
    """[B, K, V]."""
    token_labels: Tensor
    """[B, K] int64, -100 where a place of the capacity is unused."""


@dataclass(frozen=True)
class ImageEmbeddings:
    """One image encoder pass."""

    image: Tensor
    """[B, C], unit length."""
    patches: Tensor
    """[B, N, C], not normalised, row-major over `grid`."""
    grid: tuple[int, int]
    """Rows and columns of patches; N = rows * columns."""
    features: Tensor
    """[B, F] the encoder's own image feature before projection (what a linear probe sees)."""


@dataclass(frozen=True)
class TextEmbeddings:
    """One text encoder pass."""

    text: Tensor
    """[B, C], unit length."""
    sentences: Tensor
    """[B, S, C], not normalised, zero where `sentence_mask` is False."""
    sentence_mask: Tensor
    """[B, S] bool."""


@dataclass(frozen=True)
class Embeddings:
    """A rank's embeddings of one batch."""

    image: Tensor
    """[B, C] unit length."""
    text: Tensor
    """[B, C] unit length."""
    patches: Tensor
    """[B, N, C] not normalised."""
    sentences: Tensor
    """[B, S, C] not normalised, zero where padded."""
    sentence_mask: Tensor
    """[B, S] bool."""
    masked_image: Tensor | None = None
    """[B, C] unit length: the embedding of the masked radiograph, from the reconstruction's own pass."""
    masked_text: Tensor | None = None
    """[B, C] unit length: the embedding of the masked report, from the MLM's own pass."""
    reconstruction: Any = None
    """`Reconstruction` from the model, `ReconstructionSums` once the objectives have summed it up, or None."""
