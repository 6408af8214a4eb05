"""Modality scale, L_mr = L_mae + L_mlm, and the cross-sample term that the commission adds.

L_mae is the mean squared error over the masked patches (every image hides the same number), L_mlm the cross entropy
averaged over the masked tokens of the global batch.

b own pairs, G pairs of all ranks, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msvl.collectives.reduce import mean, ratio_of_totals
from msvl.objectives.chunked import two_way_rows
from msvl.objectives.config import ModalityScaleConfig
from msvl.objectives.precision import full_precision
from msvl.objectives.reconstruction import ReconstructionSums, summarised
from msvl.objectives.scale import LogitScale, ScaleOutput, StepContext


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
        found = summarised(context.embeddings).reconstruction
        if found is None:
            raise ValueError("the modality scale needs the reconstruction passes")
        config = self._config
        image = found.error.mean()
        text = ratio_of_totals(found.token_loss.sum(), found.tokens.sum())
        loss = config.image_weight * image + config.text_weight * text
        metrics = {"mae": image.detach(), "mlm": text.detach()} | _baselines(found)
        if config.cross_sample_weight:
            cross, parts = self._cross_sample(context)
            loss = loss + config.cross_sample_weight * cross
            metrics |= parts
        return ScaleOutput(loss=loss, metrics=metrics)

    def _cross_sample(self, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        gathered, embeddings = context.gathered, context.embeddings
        pairs = gathered.taking_part(self._config.duplicates)
        if embeddings.masked_image is None or embeddings.masked_text is None:
            raise ValueError("the cross-sample term needs the embeddings of the masked pair")
        loss = full_precision(embeddings.masked_image).new_zeros(())
        metrics: dict[str, Tensor] = {}
        for name, masked, whole, logit_scale in (
            ("image", embeddings.masked_image, gathered.image, self.image_scale()),
            ("text", embeddings.masked_text, gathered.text, self.text_scale()),
        ):
            found = two_way_rows(full_precision(masked), whole, logit_scale, gathered.own, *pairs)
            one_way = (found.rows - found.positive).mean()
            loss = loss + one_way
            hit = found.positive > found.best_other
            metrics |= {
                f"cross_sample_{name}": one_way.detach(),
                f"cross_sample_{name}_accuracy": hit.to(loss.dtype).mean(),
                f"cross_sample_{name}_logit_scale": logit_scale.detach().squeeze(),
                "cross_sample_chance": found.candidates.log().mean(),
            }
        return loss, metrics


def _baselines(found: ReconstructionSums) -> dict[str, Tensor]:
    """Collective. Return what predicting the mean patch would cost, and the share of masked tokens guessed right."""
    with torch.no_grad():
        mean_patch = mean(found.target_mean.mean(dim=0))
        return {
            "mae_mean_patch_error": found.target_square.mean() - mean_patch.square().mean(),
            "mlm_accuracy": ratio_of_totals(found.right.sum(), found.tokens.sum()),
        }
