"""Modality scale, L_mr = L_mae + L_mlm, and the cross-sample term that the commission adds.

b own pairs, G pairs of all ranks, M masked patches, D pixels per patch, K masked-token capacity, V tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from msvl.collectives.reduce import total
from msvl.collectives.world import world_size
from msvl.models.outputs import Reconstruction
from msvl.objectives.config import ModalityScaleConfig
from msvl.objectives.contrastive import cross_entropy_rows
from msvl.objectives.scale import LogitScale, ScaleOutput, StepContext

UNUSED = -100
"""Label of an unused place of the masked-token capacity (transformers' convention)."""


def reconstruction_error(reconstruction: Reconstruction) -> Tensor:
    """Return L_mae: mean squared error over the masked patches of this rank (every image hides the same number)."""
    return (reconstruction.patch_prediction.float() - reconstruction.patch_target.float()).square().mean()


def masked_token_loss(reconstruction: Reconstruction) -> tuple[Tensor, Tensor]:
    """Collective. Return L_mlm averaged over all masked tokens of all ranks, and this rank's number of masked tokens."""
    logits, labels = reconstruction.token_logits.flatten(0, 1).float(), reconstruction.token_labels.flatten()
    summed = cross_entropy(logits, labels, ignore_index=UNUSED, reduction="sum")
    count = (labels != UNUSED).sum().float()
    # The mean over ranks of W * (local sum / global count) is the mean over the global batch's masked tokens.
    return world_size() * summed / total(count).clamp(min=1), count


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
        text, _ = masked_token_loss(reconstruction)
        loss = config.image_weight * image + config.text_weight * text
        metrics = {"mae": image.detach(), "mlm": text.detach()} | _baselines(reconstruction)
        if config.cross_sample_weight:
            cross, parts = self._cross_sample(context)
            loss = loss + config.cross_sample_weight * cross
            metrics |= parts
        return ScaleOutput(loss=loss, metrics=metrics)

    def _cross_sample(self, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        gathered, embeddings = context.gathered, context.embeddings
        allowed = gathered.allowed if self._config.duplicates == "exclude" else None
        if embeddings.masked_image is None or embeddings.masked_text is None:
            raise ValueError("the cross-sample term needs the embeddings of the masked pair")
        image = self.image_scale() * (embeddings.masked_image.float() @ gathered.image.T)
        text = self.text_scale() * (embeddings.masked_text.float() @ gathered.text.T)
        image_loss = cross_entropy_rows(image, gathered.own, allowed)
        text_loss = cross_entropy_rows(text, gathered.own, allowed)
        return image_loss + text_loss, {
            "cross_sample_image": image_loss.detach(),
            "cross_sample_text": text_loss.detach(),
            "cross_sample_image_accuracy": (image.argmax(dim=1) == gathered.own).float().mean(),
            "cross_sample_text_accuracy": (text.argmax(dim=1) == gathered.own).float().mean(),
        }


def _baselines(reconstruction: Reconstruction) -> dict[str, Tensor]:
    """Return what guessing the mean patch would cost, and how many masked tokens are guessed right."""
    with torch.no_grad():
        target = reconstruction.patch_target.float()
        labels = reconstruction.token_labels
        used = labels != UNUSED
        right = (reconstruction.token_logits.argmax(dim=-1) == labels) & used
        return {
            "mae_mean_patch": (target - target.mean(dim=(0, 1), keepdim=True)).square().mean(),
            "mlm_accuracy": right.sum() / used.sum().clamp(min=1),
        }
