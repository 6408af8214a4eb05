"""Global scale, L_g: symmetric InfoNCE of images and reports on cosine similarities."""

from __future__ import annotations

from torch import Tensor, nn

from msvl.objectives.config import GlobalScaleConfig
from msvl.objectives.contrastive import similarity_metrics, symmetric_cross_entropy
from msvl.objectives.precision import full_precision
from msvl.objectives.scale import LogitScale, ScaleOutput, StepContext


def global_logits(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return <v_i, t_k> / tau1: [b, C] x [G, C] -> [b, G], at least fp32."""
    return scale * (full_precision(image) @ full_precision(text).T)


class GlobalScale(nn.Module):
    """L_g = mean_i -log softmax_k(<v_i, t_k> / tau1)_i + mean_k -log softmax_i(<v_i, t_k> / tau1)_k.

    The means are over the global batch. Both directions are summed (the paper's section on the global scale); tau1 is
    learnable.
    """

    def __init__(self, config: GlobalScaleConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        self._exclude = config.duplicates == "exclude"
        self.scale = LogitScale(config.temperature)

    def forward(self, context: StepContext) -> ScaleOutput:
        """Collective. Return the loss of own images against all reports and of own reports against all images."""
        gathered = context.gathered
        allowed = gathered.allowed if self._exclude else None
        scale = self.scale()
        logits = global_logits(context.embeddings.image, gathered.text, scale)
        loss = symmetric_cross_entropy(logits, gathered.own, allowed)
        metrics = similarity_metrics(logits, gathered.own, allowed, name="global")
        metrics["global_logit_scale"] = scale.detach().squeeze()
        return ScaleOutput(loss=loss, metrics=metrics)
