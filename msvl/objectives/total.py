"""The weighted sum L = l1 L_g + l2 L_l + l3 L_im + l4 L_mr, by an explicit list."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from msvl.config.errors import ConfigError
from msvl.config.imports import load_class
from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings
from msvl.objectives.config import CustomObjectiveConfig, ObjectivesConfig
from msvl.objectives.gathering import gather_embeddings
from msvl.objectives.global_scale import GlobalScale
from msvl.objectives.instance_scale import InstanceScale
from msvl.objectives.local_scale import LocalScale
from msvl.objectives.modality_scale import ModalityScale
from msvl.objectives.precision import without_autocast
from msvl.objectives.scale import StepContext

OBJECTIVES: dict[str, type[nn.Module]] = {
    "global": GlobalScale,
    "local": LocalScale,
    "instance": InstanceScale,
    "modality": ModalityScale,
}
"""Scale name -> its objective, in the paper's order."""


class Objectives(nn.Module):
    """All scales of weight above 0, with their learnable parameters."""

    def __init__(self, config: ObjectivesConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        sections: dict[str, Any] = {
            "global": config.global_,
            "local": config.local,
            "instance": config.instance,
            "modality": config.modality,
        }
        self.weights = {name: section.weight for name, section in (sections | config.custom).items() if section.weight}
        # nn.ModuleDict takes 'global' as a key only with a suffix that keeps attribute access legal Python.
        self.scales = nn.ModuleDict(
            {
                f"{name}_scale": _build(config.custom[name], channels=channels, seed=seed)
                if name in config.custom
                else OBJECTIVES[name](sections[name], channels=channels, seed=seed)
                for name in self.weights
            }
        )

    @property
    def needs_reconstruction(self) -> bool:
        """Whether the model must run its masked passes."""
        return "modality" in self.weights

    def forward(self, embeddings: Embeddings, ids: SampleIds, step: int) -> dict[str, Tensor]:
        """Collective. Return "total" = sum_k l_k L_k, each scale's unweighted L_k, and "metric/..." values.

        Every value is a local scalar; its mean over ranks is the global value, and so is the mean of the gradients.

        Args:
            embeddings: This rank's b pairs, in any floating-point type; losses are computed in fp32 or better.
            ids: Of the same pairs, each [b].
            step: Optimizer step, a key of the noise.
        """
        with without_autocast(embeddings.image.device):
            return self._losses(embeddings, ids, step)

    def _losses(self, embeddings: Embeddings, ids: SampleIds, step: int) -> dict[str, Tensor]:
        gathered = gather_embeddings(embeddings, ids, sentences="local" in self.weights)
        context = StepContext(embeddings=embeddings, ids=ids, gathered=gathered, step=step)
        losses: dict[str, Tensor] = {}
        metrics = {"metric/excluded_share": 1 - gathered.allowed_share()}
        for name in self.weights:
            output = self.scales[f"{name}_scale"](context)
            losses[name] = output.loss
            metrics |= {f"metric/{key}": value for key, value in output.metrics.items()}
        weighted = [self.weights[name] * loss for name, loss in losses.items()]
        return {"total": sum(weighted[1:], start=weighted[0]), **losses, **metrics}


def _build(config: CustomObjectiveConfig, *, channels: int, seed: int) -> nn.Module:
    built = load_class(config.class_, where="objectives.custom")(channels=channels, seed=seed, **config.options)
    if not isinstance(built, nn.Module):
        raise ConfigError(f"objectives.custom {config.class_} is no torch.nn.Module")
    return built
