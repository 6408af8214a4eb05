"""The tasks of protocols: name -> function of exam and card. A new task is a file here and a line below."""

from collections.abc import Callable

from msvl.evaluation.answers import Answer
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.exam import Exam
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks import fine_tuned, grounding, linear_probe, retrieval, segmentation, zero_shot

ProtocolTask = Callable[[Exam, Card, EvaluationConfig], Answer]

PROTOCOL_TASKS: dict[str, ProtocolTask] = {
    "zero_shot": zero_shot.run,
    "retrieval": retrieval.run,
    "grounding": grounding.run,
    "linear_probe": linear_probe.run,
    "fine_tuned": fine_tuned.run,
    "segmentation": segmentation.run,
}
