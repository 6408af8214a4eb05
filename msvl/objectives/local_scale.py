"""Local scale, L_l: GLoRIA's localized matching of image patches and report units, contrasted over the global batch.

b own images, G all reports, N patches, S unit capacity, C channels.
"""

from __future__ import annotations

from torch import nn

from msvl.objectives.config import LocalScaleConfig
from msvl.objectives.contrastive import similarity_metrics, symmetric_cross_entropy
from msvl.objectives.local_alignment import matching_scores
from msvl.objectives.precision import full_precision
from msvl.objectives.scale import ScaleOutput, StepContext


class LocalScale(nn.Module):
    """L_l = symmetric InfoNCE on temp3 * Z over the global batch, both directions summed.

    Aggregation 'mean' takes Z - log Nt instead, so that a report does not gain by the number of its sentences.

    Each rank scores its own images against all reports: only units are gathered, not patches.
    """

    def __init__(self, config: LocalScaleConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        self._config = config

    def forward(self, context: StepContext) -> ScaleOutput:
        """Collective. Return the loss of own images against all reports and of own reports against all images."""
        gathered, config = context.gathered, self._config
        if gathered.sentences is None:
            raise ValueError("the local scale needs gathered sentences")
        allowed, positives = (rows and rows() for rows in gathered.taking_part(config.duplicates))
        patches = full_precision(context.embeddings.patches)
        scores = matching_scores(
            patches,
            gathered.sentences,
            gathered.sentence_mask,
            temp1=config.attention_temperature,
            temp2=config.unit_temperature,
            normalise_over=config.normalise_over,
            unit_length=config.unit_length,
            tile=config.tile or None,
        )
        if config.aggregation == "mean":
            scores = scores - gathered.sentence_mask.sum(dim=1).to(scores.dtype).log()
        logits = config.logit_scale * scores
        loss = symmetric_cross_entropy(logits, gathered.own, allowed, positives)
        metrics = similarity_metrics(logits, gathered.own, allowed, name="local")
        counts = context.embeddings.sentence_mask.sum(dim=1)
        metrics["one_sentence_share"] = (counts == 1).float().mean()
        metrics["sentences_per_report"] = counts.float().mean()
        return ScaleOutput(loss=loss, metrics=metrics)
