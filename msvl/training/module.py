"""The one root module: ZeRO needs one root with one forward, and the reader gains from it."""

from __future__ import annotations

from torch import Tensor, nn

from msvl.data.batch import Batch
from msvl.models.msvl_model import MSVLModel
from msvl.objectives.total import Objectives


class PretrainModule(nn.Module):
    """Owns the model, the objectives and the objectives' parameters (logit scales, matching head)."""

    def __init__(self, model: MSVLModel, objectives: Objectives, *, seed: int) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives
        self.seed = seed

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Collective. Return the losses of this rank's share of the global batch.

        Returns:
            "total", one entry per scale, and "metric/..." entries: local scalars whose mean over ranks is the global
            value, and whose averaged gradients are those of one process on the global batch.
        """
        embeddings = self.model(batch, seed=self.seed, reconstruct=self.objectives.needs_reconstruction)
        return self.objectives(embeddings, batch.ids, batch.step)
