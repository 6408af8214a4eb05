"""The light text decoder: BERT's masked-language head, applied to the masked places only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init


class TextDecoder(nn.Module):
    """Hidden layer with GELU and norm, then one logit per token of the vocabulary (Devlin et al. 2019).

    The last layer has its own weights: tied ones would be read outside the module that owns them, which ZeRO-3 forbids.
    """

    def __init__(self, width: int, vocab_size: int) -> None:
        """Build for hidden states of `width` channels."""
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.words = nn.Linear(width, vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states of masked places [B, K, E] to logits [B, K, V]."""
        logits: Tensor = self.words(self.norm(functional.gelu(self.dense(hidden))))
        return logits

    @torch.no_grad()
    def initialise(self) -> None:
        """Start near uniform predictions: the loss begins at ln V."""
        init.xavier_uniform_(self.dense.weight)
        init.normal_(self.words.weight, std=0.02)
        init.zeros_(self.dense.bias)
        init.zeros_(self.words.bias)
