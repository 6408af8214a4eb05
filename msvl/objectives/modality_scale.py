"""Modality scale, L_mr = L_mae + L_mlm, and the cross-sample term that the commission adds.

b own pairs, G pairs of all ranks, M masked patches, D pixels per patch, K masked-token capacity, V tokens, C channels.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from msvl.collectives.reduce import mean, ratio_of_totals
from msvl.models.outputs import Reconstruction
from msvl.objectives.config import ModalityScaleConfig
from msvl.objectives.contrastive import chance_loss, cross_entropy_rows, retrieval_accuracy
from msvl.objectives.precision import full_precision
from msvl.objectives.scale import LogitScale, ScaleOutput, StepContext

UNUSED = -100
"""Label of an unused place of the masked-token capacity (transformers' convention)."""


def reconstruction_error(reconstruction: Reconstruction) -> Tensor:
    """Return L_mae: mean squared error over the masked patches of this rank (every image hides the same number)."""
    error = full_precision(reconstruction.patch_prediction) - full_precision(reconstruction.patch_target)
    return error.square().mean()


def masked_token_loss(reconstruction: Reconstruction) -> Tensor:
    """Collective. Return L_mlm: cross entropy, mean over the masked tokens of the global batch."""
    logits = full_precision(rearrange(reconstruction.token_logits, "b k v -> (b k) v"))
    labels = rearrange(reconstruction.token_labels, "b k -> (b k)")
    summed = cross_entropy(logits, labels, ignore_index=UNUSED, reduction="sum")
    return ratio_of_totals(summed, (labels != UNUSED).sum())


class ModalityScale(nn.Module):
    """L_mr = w_image L_mae + w_text L_mlm + w_cross (C_image + C_text).

    C_image is InfoNCE of the masked radiograph's embedding against the unmasked embeddings of all gathered radiographs,
    its own being the positive; C_text likewise for reports. With w_cross = 0 the term is not computed at all.
    """

    def __init__(self, config: ModalityScaleConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        self._config = config
        if config.cross_sample_weight:
            self.image_scale = LogitScale(config.temperature)
            self.text_scale = LogitScale(config.temperature)

    def forward(self, context: StepContext) -> ScaleOutput:
        """Collective. Return the weighted sum and its parts."""
        reconstruction = context.embeddings.reconstruction
        if reconstruction is None:
            raise ValueError("the modality scale needs the reconstruction passes")
        config = self._config
        image = reconstruction_error(reconstruction)
        text = masked_token_loss(reconstruction)
        loss = config.image_weight * image + config.text_weight * text
        metrics = {"mae": image.detach(), "mlm": text.detach()} | _baselines(reconstruction)
        if config.cross_sample_weight:
            cross, parts = self._cross_sample(context)
            loss = loss + config.cross_sample_weight * cross
            metrics |= parts
        return ScaleOutput(loss=loss, metrics=metrics)

    def _cross_sample(self, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        gathered, embeddings = context.gathered, context.embeddings
        allowed = gathered.allowed() if self._config.duplicates == "exclude" else None
        if embeddings.masked_image is None or embeddings.masked_text is None:
            raise ValueError("the cross-sample term needs the embeddings of the masked pair")
        image_scale, text_scale = self.image_scale(), self.text_scale()
        image = image_scale * (full_precision(embeddings.masked_image) @ gathered.image.T)
        text = text_scale * (full_precision(embeddings.masked_text) @ gathered.text.T)
        image_loss = cross_entropy_rows(image, gathered.own, allowed)
        text_loss = cross_entropy_rows(text, gathered.own, allowed)
        return image_loss + text_loss, {
            "cross_sample_image": image_loss.detach(),
            "cross_sample_text": text_loss.detach(),
            "cross_sample_image_accuracy": retrieval_accuracy(image, gathered.own, allowed),
            "cross_sample_text_accuracy": retrieval_accuracy(text, gathered.own, allowed),
            "cross_sample_chance": chance_loss(allowed, image),
            "cross_sample_image_logit_scale": image_scale.detach().squeeze(),
            "cross_sample_text_logit_scale": text_scale.detach().squeeze(),
        }


def _baselines(reconstruction: Reconstruction) -> dict[str, Tensor]:
    """Collective. Return what predicting the mean patch would cost, and the share of masked tokens guessed right."""
    with torch.no_grad():
        target = full_precision(reconstruction.patch_target)
        labels = reconstruction.token_labels
        used = labels != UNUSED
        right = (reconstruction.token_logits.argmax(dim=-1) == labels) & used
        return {
            "mae_mean_patch_error": (target - mean(reduce(target, "b m d -> d", "mean"))).square().mean(),
            "mlm_accuracy": ratio_of_totals(right.sum(), used.sum()),
        }
