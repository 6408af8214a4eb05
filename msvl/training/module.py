"""The one root module: ZeRO needs one root with one forward, and the reader gains from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from msvl.data.batch import Batch, SampleIds
from msvl.models.msvl_model import MSVLModel
from msvl.models.outputs import Embeddings
from msvl.objectives.parts import differentiable, joined
from msvl.objectives.precision import full_precision
from msvl.objectives.reconstruction import summarised
from msvl.objectives.total import Objectives


class PretrainModule(nn.Module):
    """Owns the model, the objectives and the objectives' parameters (logit scales, matching head)."""

    def __init__(self, model: MSVLModel, objectives: Objectives, *, seed: int) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives
        self.seed = seed

    def forward(
        self,
        batch: Batch,
        *,
        embed_only: bool = False,
        others: Sequence[Embeddings] = (),
        ids: SampleIds | None = None,
        gradients: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor] | Embeddings:
        """Return the losses of this rank's share of the global batch; for gradient caching, steps towards them.

        Args:
            batch: This rank's pairs, or one micro-batch of them.
            embed_only: Return the micro-batch's embeddings, reconstruction summed up, without any loss.
            others: Embeddings of this rank's further micro-batches, which follow the batch's own.
            ids: Of all of them together; the batch's own by default.
            gradients: Of the losses with respect to the batch's embeddings; return their product as "total", whose
                backward pass is that of the losses.

        Returns:
            "total", one entry per scale, and "metric/..." entries: local scalars whose mean over ranks is the global
            value, and whose averaged gradients are those of one process on the global batch. Collective.
        """
        embeddings = summarised(self.model(batch, seed=self.seed, reconstruct=self.objectives.needs_reconstruction))
        if embed_only:
            return embeddings
        if gradients is not None:
            found = differentiable(embeddings)
            products = [(full_precision(found[name]) * full_precision(gradients[name])).sum() for name in gradients]
            return {"total": sum(products[1:], start=products[0])}
        return self.objectives(joined([embeddings, *others]) if others else embeddings, ids or batch.ids, batch.step)
