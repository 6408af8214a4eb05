"""Judgement during training, on rank 0, by the evaluation's own code. The one place where training calls evaluation."""

from __future__ import annotations

import copy
import os

import torch

from msvl.collectives.agree import from_rank_zero
from msvl.collectives.world import rank
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.packed import PackedSet
from msvl.data.tokenise import ReportTokeniser
from msvl.evaluation.config import EvaluationConfig, TaskName
from msvl.evaluation.findings import judgeable_findings
from msvl.evaluation.judge import flatten, judge
from msvl.evaluation.prompts import choose_prompts
from msvl.models.msvl_model import MSVLModel
from msvl.training import checkpoint
from msvl.training.config import PretrainConfig
from msvl.training.engine import Engine

TASKS: tuple[TaskName, ...] = ("zero_shot", "retrieval", "ridge_probe")


class Validator:
    """Copies the whole weights to rank 0 and judges them there; the other ranks wait."""

    def __init__(self, config: PretrainConfig, packed: PackedSet, tokeniser: ReportTokeniser, engine: Engine) -> None:
        self._config = config
        self._packed = packed
        self._tokeniser = tokeniser
        self._engine = engine
        self._sets: tuple[EvaluationSet, EvaluationSet] | None = None

    def judge(self, step: int) -> dict[str, float]:
        """Collective. Return flat metrics, the same on every rank."""
        weights = checkpoint.full_state_dict(self._engine)
        if rank() != 0:
            return from_rank_zero(None)
        model = self._model(weights)
        held_out, probe_train = self._load_sets()
        # The others only wait, so their cores are free; the number of threads is put back, as it is part of the numbers.
        threads = torch.get_num_threads()
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            prompts = choose_prompts(judgeable_findings(held_out.labels), packed_folder=self._packed.path)
            judging = EvaluationConfig(tasks=TASKS, resamples=0, seed=self._config.train.seed)
            result = judge(model, self._tokeniser, held_out, probe_train=probe_train, prompts=prompts, config=judging)
        finally:
            torch.set_num_threads(threads)
        return from_rank_zero(flatten(result))

    def _model(self, weights: dict[str, torch.Tensor]) -> MSVLModel:
        own = self._engine.deepspeed.module.model
        with torch.random.fork_rng(devices=[]):  # rank 0 must not draw numbers that the others do not
            model = MSVLModel(copy.deepcopy(own.config))
        prefix = "model."
        model.load_state_dict({k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)})
        return torch.nn.Module.to(model, self._engine.device).eval()

    def _load_sets(self) -> tuple[EvaluationSet, EvaluationSet]:
        if self._sets is None:
            data, limit = self._config.data, self._config.validation.samples
            held_out = EvaluationSet.load(
                self._packed, data.validation_split, image_size=data.image_size, report=data.report, limit=limit
            )
            probe = EvaluationSet.load(
                self._packed,
                data.train_split,
                image_size=data.image_size,
                report=data.report,
                limit=limit,
                subset=data.subset,
            )
            self._sets = held_out, probe
        return self._sets
