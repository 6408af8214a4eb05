"""What every encoder family offers to the model, whatever it is inside.

B batch, N patches, V visible patches, F image channels, E text channels, L token capacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from msvl.models.config import ImageConfig, TextConfig
from msvl.models.text_decoder import TextDecoder


@dataclass(frozen=True)
class EncodedImage:
    """Last hidden states of an image encoder, after its final norm."""

    cls: Tensor
    """[B, F]."""
    patches: Tensor
    """[B, N, F], or [B, V, F] of the visible patches in the order in which they were asked for."""


class ImageEncoder(Protocol):
    """An image encoder that can leave out patches."""

    width: int
    """F."""
    patch: int
    """Patch side in pixels."""

    @classmethod
    def describe(cls, config: ImageConfig, image_size: int) -> dict[str, Any]:
        """Return what `__init__` needs, from the configuration or from the published weights that it names."""

    def load_published(self, name: str) -> None:
        """Fill the encoder from a local folder or hub name. Raises CheckpointError when it does not fit."""

    def __call__(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode standardised grey pixels [B, 1, H, W]; with `visible` [B, V] nothing is seen of the other patches."""


class TextEncoder(Protocol):
    """A bidirectional text encoder."""

    width: int
    """E."""
    max_tokens: int
    """Longest report it can read."""

    @classmethod
    def describe(cls, config: TextConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        """Return what `__init__` needs, from the configuration or from the published weights that it names."""

    def load_published(self, name: str, decoder: TextDecoder) -> None:
        """Fill the encoder, and the MLM head where there is one. Raises CheckpointError when they do not fit."""

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode [B, L] tokens into last hidden states [B, L, E]."""
