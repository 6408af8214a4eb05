"""Global scale, L_g: contrast of images and reports on cosine similarities, in blocks of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msvl.collectives.reduce import ratio_of_totals
from msvl.objectives.chunked import Rows, SigmoidRows, sigmoid_rows, two_way_rows
from msvl.objectives.config import GlobalScaleConfig
from msvl.objectives.contrastive import over_all_images
from msvl.objectives.precision import full_precision
from msvl.objectives.scale import LogitScale, ScaleOutput, StepContext


class GlobalScale(nn.Module):
    """L_g = mean_i -log softmax_k(<v_i, t_k> / tau1)_i + mean_k -log softmax_i(<v_i, t_k> / tau1)_k.

    The means are over the global batch. Both directions are summed (the paper's section on the global scale); tau1 is
    learnable. With the sigmoid loss, L_g = mean_i sum_k -log sigmoid(y_ik (<v_i, t_k> / tau1 + bias)) (SigLIP).
    """

    def __init__(self, config: GlobalScaleConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        self._duplicates = config.duplicates
        self.scale = LogitScale(config.temperature)
        self.bias = nn.Parameter(torch.tensor([config.sigmoid_bias])) if config.loss == "sigmoid" else None

    def forward(self, context: StepContext) -> ScaleOutput:
        """Collective. Return the loss of own images against all reports and of own reports against all images."""
        gathered, image, scale = context.gathered, full_precision(context.embeddings.image), self.scale()
        pairs = gathered.taking_part(self._duplicates)
        if self.bias is not None:
            bias = full_precision(self.bias)
            told = sigmoid_rows(image, gathered.text, scale, bias, gathered.own, *pairs)
            metrics = _metrics(told, scale) | {"global_logit_bias": bias.detach().squeeze()}
            return ScaleOutput(loss=told.losses.mean(), metrics=metrics)
        found = two_way_rows(image, gathered.text, scale, gathered.own, *pairs)
        columns = over_all_images(found.columns)
        loss = (found.rows - found.positive).mean() + (columns - found.positive).mean()
        return ScaleOutput(
            loss=loss, metrics=_metrics(found, scale) | {"global_chance": 2 * found.candidates.log().mean()}
        )


def _metrics(found: Rows | SigmoidRows, scale: Tensor) -> dict[str, Tensor]:
    """Collective. Return in-batch accuracy, and the mean logits of positives and of negatives."""
    with torch.no_grad():
        positive = found.positive
        return {
            "global_accuracy": (positive > found.best_other).to(positive.dtype).mean(),
            "global_positive": positive.mean(),
            "global_negative": ratio_of_totals((found.total - positive).sum(), (found.candidates - 1).sum()),
            "global_logit_scale": scale.detach().squeeze(),
        }
