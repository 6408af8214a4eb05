"""One judgement by a protocol, from files to files, on any number of ranks: `evaluation/NAME.json` and what stands beside it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msvl.collectives.world import rank, world_size
from msvl.config.errors import ConfigError, DataError
from msvl.data.config import ReportConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.packed import PackedSet
from msvl.evaluation.answers import Answer, save_columns
from msvl.evaluation.clean_twin import judge_twin
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.evaluate import training_data
from msvl.evaluation.exam import Exam, Splits
from msvl.evaluation.figures import with_untrained, write_json
from msvl.evaluation.findings import judgeable
from msvl.evaluation.gallery import write_gallery
from msvl.evaluation.judged_model import open_judged
from msvl.evaluation.locate import ModelPlace
from msvl.evaluation.material import NotJudgeable
from msvl.evaluation.paper_tables import write_tables
from msvl.evaluation.protocol import Card, Protocol
from msvl.evaluation.protocol_tasks import PROTOCOL_TASKS
from msvl.evaluation.subgroups import groups_of, subgroup_figures
from msvl.evaluation.wandb_page import mirror_figures
from msvl.models.msvl_config import MSVLConfig
from msvl.models.msvl_model import MSVLModel

TEXT_TASKS = frozenset({"zero_shot", "retrieval", "grounding"})
"""Tasks that compare images with text."""


@dataclass(frozen=True)
class ProtocolRequest:
    """What to judge on what, and by which protocol."""

    place: ModelPlace
    protocol: Protocol
    tasks: tuple[str, ...]
    data: str | None = None
    """Packed set; None takes the one that the model was trained on."""
    split: str = "test"
    limit: int | None = None
    """Images of each split at most; None is all."""
    name: str | None = None
    untrained: bool = False
    """Judge a randomly initialised twin beside."""
    config: EvaluationConfig = EvaluationConfig()


def evaluate_protocol(request: ProtocolRequest, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Collective. Judge a model and return the figures' file and its content, the same on every rank.

    Raises:
        CheckpointError: The model cannot be loaded.
        ConfigError: The protocol has no card for a task that was asked for.
        DataError: The packed set or what a task asked for by name needs is missing.
    """
    began = time.perf_counter()
    place = request.place
    judged = open_judged(place)
    model = judged.model
    nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    packed = PackedSet.open(request.data) if request.data else PackedSet.from_config(training_data(place))
    cards = _cards(request, packed)
    splits = read_splits(
        packed, judged.report, size=model.config.image_size, split=request.split, limit=request.limit,
        train_subset=request.config.train_subset,
    )  # fmt: skip
    digest = judged.digest

    def exam_of(network: MSVLModel, identity: str) -> Exam:
        return Exam(
            network, judged.tokeniser, packed, splits, cache=place.evaluations / "cache", model_digest=identity,
            batch_size=request.config.batch_size, say=say,
        )  # fmt: skip

    exam = exam_of(model, digest)
    answers = _run(exam, cards, request.config, say)
    figures: dict[str, Any] = {task: answer.figures for task, answer in answers.items()}
    twins = _twins(request, exam, cards, answers, say)
    if request.untrained:
        twin = untrained_twin(model, request.config.seed)
        say("judging the untrained twin")
        beside = _run(exam_of(twin, f"untrained {request.config.seed} of {digest}"), cards, request.config, say)
        figures = with_untrained(figures, {task: answer.figures for task, answer in beside.items()})
    figures |= {
        task: {"left_out": f"protocol {request.protocol.name} has no card for it on {packed.name}"}
        for task in request.tasks
        if task not in cards
    }
    name = request.name or f"{packed.name}-{request.split}-{request.protocol.name}"
    path = place.evaluations / f"{name}.json"
    content = {
        "name": name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"path": str(place.model), "step": place.step, "sha256": digest},
        "data": _about(packed, splits.test, request.split),
        "protocol": request.protocol.name,
        "cards": {task: card_facts(request.protocol, card, packed, splits) for task, card in cards.items()},
        "clean_twins": twins,
        "config": request.config.model_dump(mode="json"),
        "untrained": request.untrained,
        "ranks": world_size(),
        "figures": figures,
        "subgroups": _subgroups(answers, splits.test, request.config),
        "seconds": {"protocol": round(time.perf_counter() - began, 2)},
    }
    if rank() == 0:
        write_json(path, content)
        save_columns(path.with_name(f"{name}-samples.npz"), {task: answer.columns for task, answer in answers.items()})
        write_tables(path.with_name(f"{name}-tables"), content)
        write_gallery(path.with_name(f"{name}-gallery"), exam, cards, answers, count=request.config.examples)
        if place.run is not None:
            mirror_figures(place.run, name, figures)
    return path, content


def read_splits(
    packed: PackedSet,
    report: ReportConfig,
    *,
    size: int,
    split: str,
    limit: int | None,
    train_subset: str | None = None,
) -> Splits:
    """Decode the judged split, val and train, or the part of it that a list names; those that the set lacks are empty."""

    def read(name: str) -> EvaluationSet:
        if name != split and not packed.counts(name)["samples"]:
            return EvaluationSet.empty(size)
        subset = train_subset if name == "train" else None
        return EvaluationSet.load(packed, name, image_size=size, report=report, limit=limit, subset=subset)

    if split != "test":
        raise DataError(f"a protocol learns from train, chooses on val and judges test: split {split} cannot be judged by it")  # fmt: skip
    return Splits(*(read(name) for name in ("train", "val", "test")))


def untrained_twin(model: MSVLModel, seed: int) -> MSVLModel:
    """Return a model of the same shape with random weights. Raises ConfigError for a foreign checkpoint, which has no twin."""
    if not isinstance(model, MSVLModel):
        raise ConfigError("--untrained: a foreign checkpoint has no untrained twin; leave the option out")
    assert isinstance(model.config, MSVLConfig), type(model.config)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = MSVLModel(copy.deepcopy(model.config))
    return nn.Module.to(twin, device).eval()


def card_facts(protocol: Protocol, card: Card, packed: PackedSet, splits: Splits) -> dict[str, Any]:
    """Return what has to stand beside every figure of a card."""
    used = (splits.val, splits.test)
    lacking = [name for name in card.findings if not all(name in judgeable(own.labels) for own in used)]
    return {
        "card": f"{protocol.name}/{card.task}/{card.data}",
        "digest": card.digest,
        "headline": card.headline,
        "splits": split_status(card, packed),
        "deviations": list(card.deviations),
        "leaks": list(card.leaks),
        "clean_twin": protocol.twin if card.leaks else None,
        "findings_left_out": lacking,
    }


def split_status(card: Card, packed: PackedSet) -> str:
    """Say whether the packed set's splits are the card's lists, by the SHA-256 that the source noted at packing."""
    wanted = {split: item.sha256 for split, item in card.splits.items() if item.sha256}
    noted = packed.manifest["source"].get("split_lists", {})
    if not wanted:
        return "those of the lists that the set was packed by" if noted else "the packed set's own, by patient"
    found = sorted(split for split, digest in wanted.items() if noted.get(split) == digest)
    if len(found) == len(wanted):
        lost = sum(packed.manifest["dropped"].values())
        return "as in the card: every list has its SHA-256" + (
            f"; {lost:,} images were left out at packing" if lost else ""
        )
    other = ", ".join(sorted(set(wanted) - set(found)))
    return f"NOT the card's lists for {other}: the packed set's own splits, so the figures are no reproduction"


def _cards(request: ProtocolRequest, packed: PackedSet) -> dict[str, Card]:
    cards = {}
    for task in request.tasks:
        card = request.protocol.card(task, packed.name)
        if card is None and not request.config.strict:
            continue
        if card is None:
            have = ", ".join(sorted({item.task for item in request.protocol.cards}))
            raise ConfigError(
                f"protocol {request.protocol.name} has no card for {task} on {packed.name}; it has {have}"
            )
        cards[task] = card
    return cards


def _run(exam: Exam, cards: dict[str, Card], config: EvaluationConfig, say: Callable[[str], None]) -> dict[str, Answer]:
    answers = {}
    for task, card in cards.items():
        say(f"{task} by card {card.digest}")
        try:
            answers[task] = _answer(exam, card, config)
        except NotJudgeable as error:
            if config.strict:
                raise
            answers[task] = Answer({"left_out": str(error)})
    return answers


def _answer(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    if card.task in TEXT_TASKS and not exam.reads_text:
        raise NotJudgeable(f"{card.task} needs a text encoder: this checkpoint is an image encoder alone")
    local = card.zero_shot is not None and card.zero_shot.score != "global"
    if (card.task == "grounding" or local) and not exam.places_text:
        raise NotJudgeable(
            f"{card.task} needs patches in the space of texts: this checkpoint describes no text.patch_projection"
        )
    return PROTOCOL_TASKS[card.task](exam.with_labels(card.uncertain, card.blank, card.findings), card, config)


def _twins(
    request: ProtocolRequest, exam: Exam, cards: dict[str, Card], answers: dict[str, Answer], say: Callable[[str], None]
) -> dict[str, Any]:
    """Collective. Judge the clean twin of every card with known faults that was judged."""
    twin = request.protocol.twin
    found: dict[str, Any] = {}
    for task, card in cards.items():
        if twin is None or not card.leaks or "left_out" in answers[task].figures:
            continue
        say(f"{task}: the clean twin")
        try:
            found[task] = judge_twin(card, exam, twin=twin, run=lambda own, clean: _answer(own, clean, request.config))
        except NotJudgeable as error:
            found[task] = {"card": f"{twin}/{task}", "left_out": str(error)}
    return found


def _about(packed: PackedSet, judged: EvaluationSet, split: str) -> dict[str, Any]:
    return {
        "path": str(packed.location),
        "name": packed.name,
        "split": split,
        "fingerprint": packed.fingerprint,
        "shareable": packed.shareable,
        "licence": packed.licence,
        "images": len(judged),
        "studies": len(set(judged.studies)),
        "patients": len(set(judged.patients)),
    }


def _subgroups(answers: dict[str, Answer], judged: EvaluationSet, config: EvaluationConfig) -> dict[str, Any]:
    groups = groups_of(judged.views, judged.extras)
    found = {
        task: subgroup_figures(answer.columns, groups, judged.keys, resamples=config.resamples, seed=config.seed)
        for task, answer in answers.items()
        if answer.classified is not None
    }
    return {task: own for task, own in found.items() if own}
