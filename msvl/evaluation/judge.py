"""One judgement for both `msvl evaluate` and validation during training: encode once, run every task on the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from msvl.data.evaluation_set import EvaluationSet
from msvl.data.identity import text_hash
from msvl.data.study import Box
from msvl.evaluation.config import PROBING_TASKS, EvaluationConfig
from msvl.evaluation.encoders import (
    Encodes,
    PhrasePairs,
    Tokenises,
    encode_images,
    encode_prompts,
    encode_reports,
)
from msvl.evaluation.figures import SETTINGS
from msvl.evaluation.findings import judgeable_findings
from msvl.evaluation.material import Figures, Material, NotJudgeable, Pair, ProbeMaterial
from msvl.evaluation.prompts import PromptSet, choose_prompts
from msvl.evaluation.tasks import TASKS
from msvl.evaluation.tasks.zero_shot import ensembles, flat_prompts

Judgement = dict[str, Figures]
"""Task -> its figures, as they stand in results.json."""


def judge(
    model: Encodes,
    tokeniser: Tokenises,
    held_out: EvaluationSet,
    *,
    probe_train: EvaluationSet | None = None,
    prompts: PromptSet | None = None,
    config: EvaluationConfig,
) -> Judgement:
    """Judge a model on held-out data.

    Args:
        model: Encoders; put into evaluation mode for the time being.
        tokeniser: The one the model was trained with.
        held_out: Images, reports and annotations to judge on.
        probe_train: Labelled training studies for the probes and the pixel baseline.
        prompts: Zero-shot prompts; None takes MaCo's template for every finding that can be judged.
        config: Tasks and how to run them; `resamples=0` and `ridge_probe` during training.

    Returns:
        {task: figures}.

    Raises:
        NotJudgeable: With `config.strict`, when the data cannot judge a task; the message says what to do.
        DataError: A patient is in both sets.
    """
    material = gather_material(model, tokeniser, held_out, probe_train=probe_train, prompts=prompts, config=config)
    return run_tasks(material, config)


def flatten(judgement: Judgement) -> dict[str, float]:
    """Return {"task.name": value} of single figures and chance levels, for metrics.jsonl and the best checkpoint."""
    return {
        f"{task}.{name}": value
        for task, figures in judgement.items()
        for name, value in figures.items()
        if isinstance(value, float) and name not in SETTINGS
    }


def run_tasks(material: Material, config: EvaluationConfig) -> Judgement:
    """Run the configured tasks on embeddings; one that the data cannot judge becomes {"left_out": why}."""
    return {name: _run_task(name, material, config) for name in config.tasks}


def _run_task(name: str, material: Material, config: EvaluationConfig) -> Figures:
    try:
        return TASKS[name](material, config)
    except NotJudgeable as error:
        if config.strict:
            raise
        return {"left_out": str(error)}


def gather_material(
    model: Encodes,
    tokeniser: Tokenises,
    held_out: EvaluationSet,
    *,
    probe_train: EvaluationSet | None = None,
    prompts: PromptSet | None = None,
    config: EvaluationConfig,
    progress: bool = False,
) -> Material:
    """Encode what the configured tasks need, once; with `progress` show bars on the terminal."""
    size = config.batch_size
    whole, local = None, None
    if "zero_shot" in config.tasks:
        prompts = prompts or choose_prompts(judgeable_findings(held_out.labels))
        if prompts.findings:
            sides = encode_prompts(model, tokeniser, flat_prompts(prompts), batch_size=size)
            whole, local = ensembles(prompts, sides.text), ensembles(prompts, sides.sentence)
    pairs = phrase_pairs(held_out.boxes) if "grounding" in config.tasks else ()
    phrases = _phrases(model, tokeniser, pairs, batch_size=size)
    encoded = encode_images(model, held_out.images, batch_size=size, prompts=local, pairs=phrases, progress=progress)
    reports = None
    if "retrieval" in config.tasks and all(held_out.sentences):
        reports = encode_reports(model, tokeniser, held_out.sentences, batch_size=size)
    return Material(
        images=held_out.images,
        patients=list(held_out.patients),
        studies=list(held_out.studies),
        # What the model reads, which is less than the whole report: equal here, no model can tell them apart.
        texts=[text_hash(" ".join(own)) for own in held_out.sentences],
        labels=dict(held_out.labels),
        encoded=encoded,
        reports=reports,
        prompts=prompts,
        prompt_embeddings=whole,
        pairs=pairs,
        probe=_probe_material(model, probe_train, config, progress=progress),
    )


def phrase_pairs(boxes: Sequence[Sequence[Box]]) -> tuple[Pair, ...]:
    """Unite the boxes of one phrase in one image: pairs in order of images, then of first mention.

    Args:
        boxes: Per image, boxes in pixels of the model's square.
    """
    pairs = []
    for row, own in enumerate(boxes):
        by_phrase: dict[str, list[Box]] = {}
        for box in own:
            by_phrase.setdefault(box.phrase, []).append(box)
        for phrase, group in by_phrase.items():
            regions = tuple((box.x, box.y, box.w, box.h) for box in group)
            pairs.append(Pair(row=row, phrase=phrase, finding=group[0].finding, boxes=regions))
    return tuple(pairs)


def _phrases(model: Encodes, tokeniser: Tokenises, pairs: tuple[Pair, ...], *, batch_size: int) -> PhrasePairs | None:
    if not pairs:
        return None
    distinct = sorted({pair.phrase for pair in pairs})
    place = {phrase: index for index, phrase in enumerate(distinct)}
    embeddings = encode_prompts(model, tokeniser, distinct, batch_size=batch_size).sentence
    return PhrasePairs(
        rows=torch.tensor([pair.row for pair in pairs]),
        phrases=embeddings[[place[pair.phrase] for pair in pairs]],
    )


def _probe_material(
    model: Encodes, train: EvaluationSet | None, config: EvaluationConfig, *, progress: bool
) -> ProbeMaterial | None:
    if train is None or not PROBING_TASKS & set(config.tasks):
        return None
    if {"linear_probe", "ridge_probe"} & set(config.tasks):
        features = encode_images(model, train.images, batch_size=config.batch_size, progress=progress).features
    else:
        features = torch.zeros(len(train.images), 0)
    return ProbeMaterial(features, train.images, dict(train.labels), list(train.patients))
