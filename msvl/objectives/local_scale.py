"""Local scale, L_l: GLoRIA's localized matching of image patches and report sentences.

For report k with sentences t_kn and image i with patches v_ij:
s = t v^T; softmax over sentences for every patch; times temp1; softmax over patches for every sentence: attention a;
context c_n = sum_j a_nj v_j; r_n = cos(c_n, t_n); Z = log sum_n exp(temp2 r_n); logits Z * temp3 (tau2 = 1 / temp3).
Padding sentences take part nowhere.

b own images, T reports of a tile, G all reports, N patches, S sentence capacity, C channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from msvl.objectives.config import LocalScaleConfig
from msvl.objectives.contrastive import EXCLUDED, similarity_metrics, symmetric_cross_entropy
from msvl.objectives.precision import full_precision
from msvl.objectives.scale import ScaleOutput, StepContext

EPSILON = 1e-8
"""Smallest product of norms in a cosine (GLoRIA)."""

NormaliseOver = Literal["units_then_patches", "patches"]


def matching_scores(
    patches: Tensor,
    sentences: Tensor,
    mask: Tensor,
    *,
    temp1: float,
    temp2: float,
    normalise_over: NormaliseOver,
    unit_length: bool = False,
) -> Tensor:
    """Return Z(image i, report k) for every pair.

    Args:
        patches: [b, N, C].
        sentences: [T, S, C]; padded places may hold anything finite.
        mask: [T, S] bool, at least one True in each row.
        temp1: Sharpens the attention over patches.
        temp2: Sharpens the sum over sentences.
        normalise_over: 'units_then_patches' is GLoRIA's; 'patches' leaves the first softmax out.
        unit_length: Bring patches and sentences to unit length first (MGCA); GLoRIA does not.

    Returns:
        [b, T].
    """
    absent = rearrange(~mask, "t s -> 1 t s 1")
    if unit_length:
        patches = patches / _length(patches).unsqueeze(-1)
        sentences = sentences / _length(sentences).unsqueeze(-1)
    similarity = torch.einsum("bnc,tsc->btsn", patches, sentences)
    if normalise_over == "units_then_patches":
        similarity = similarity.masked_fill(absent, EXCLUDED).softmax(dim=2)
    attention = (temp1 * similarity).softmax(dim=3)
    context = torch.einsum("btsn,bnc->btsc", attention, patches)
    inner = (context * sentences).sum(dim=-1)
    cosine = (inner / (_length(context) * _length(sentences)).clamp(min=EPSILON)).masked_fill(
        absent.squeeze(-1), EXCLUDED
    )
    return (temp2 * cosine).logsumexp(dim=2)


def _length(vectors: Tensor) -> Tensor:
    # The square is clamped, not its root: the gradient at a zero vector (a padded place) is 0 instead of NaN.
    return vectors.square().sum(dim=-1).clamp(min=EPSILON**2).sqrt()


class LocalScale(nn.Module):
    """L_l = symmetric InfoNCE on temp3 * Z over the global batch, both directions summed.

    Aggregation 'mean' takes Z - log Nt instead, so that a report does not gain by the number of its sentences.

    Each rank scores its own images against all reports: only sentences are gathered, not patches. Reports are scored in
    tiles whose intermediate tensors are recomputed in the backward pass.
    """

    def __init__(self, config: LocalScaleConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        self._config = config

    def forward(self, context: StepContext) -> ScaleOutput:
        """Collective. Return the loss of own images against all reports and of own reports against all images."""
        gathered, config = context.gathered, self._config
        if gathered.sentences is None:
            raise ValueError("the local scale needs gathered sentences")
        allowed = gathered.allowed if config.duplicates == "exclude" else None
        patches = full_precision(context.embeddings.patches)
        scores = self._scores(patches, gathered.sentences, gathered.sentence_mask)
        if config.aggregation == "mean":
            scores = scores - gathered.sentence_mask.sum(dim=1).to(scores.dtype).log()
        logits = config.logit_scale * scores
        loss = symmetric_cross_entropy(logits, gathered.own, allowed)
        metrics = similarity_metrics(logits, gathered.own, allowed, name="local")
        counts = context.embeddings.sentence_mask.sum(dim=1)
        metrics["one_sentence_share"] = (counts == 1).float().mean()
        metrics["sentences_per_report"] = counts.float().mean()
        return ScaleOutput(loss=loss, metrics=metrics)

    def _scores(self, patches: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
        tiles = []
        for start in range(0, sentences.shape[0], self._config.tile):
            rows = slice(start, start + self._config.tile)
            tile = (patches, sentences[rows], mask[rows])
            tiles.append(checkpoint(self._tile, *tile, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(tiles, dim=1)

    def _tile(self, patches: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
        return matching_scores(
            patches,
            sentences,
            mask,
            temp1=self._config.attention_temperature,
            temp2=self._config.unit_temperature,
            normalise_over=self._config.normalise_over,
            unit_length=self._config.unit_length,
        )
