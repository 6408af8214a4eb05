"""The ways to judge a model: name -> function of the material. A new task is a file here and a line below."""

from collections.abc import Callable

from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.material import Figures, Material
from msvl.evaluation.tasks import grounding, linear_probe, pixel_baseline, retrieval, ridge_probe, zero_shot

Task = Callable[[Material, EvaluationConfig], Figures]

TASKS: dict[str, Task] = {
    "zero_shot": zero_shot.run,
    "retrieval": retrieval.run,
    "grounding": grounding.run,
    "linear_probe": linear_probe.run,
    "ridge_probe": ridge_probe.run,
    "pixel_baseline": pixel_baseline.run,
}
