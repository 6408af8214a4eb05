"""One evaluation from files to files: a model and a packed set in, `evaluation/NAME.json` and its examples out."""

from __future__ import annotations

import copy
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import nn

from msvl.config.errors import DataError
from msvl.config.private import private_folder
from msvl.data.config import DataConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.packed import PackedSet
from msvl.data.tokenise import ReportTokeniser
from msvl.evaluation.config import DEFAULT_TASKS, PROBING_TASKS, EvaluationConfig
from msvl.evaluation.examples import write_examples
from msvl.evaluation.figures import with_untrained, write_json
from msvl.evaluation.findings import judgeable_findings
from msvl.evaluation.judge import Judgement, gather_material, run_tasks
from msvl.evaluation.locate import WEIGHTS, ModelPlace
from msvl.evaluation.material import Material
from msvl.evaluation.prompts import PromptSet, choose_prompts
from msvl.models.exported import ExportSettings, export_settings, load_exported
from msvl.models.msvl_config import MSVLConfig
from msvl.models.msvl_model import MSVLModel

PROBE_SPLIT = "train"
"""Split that the probes are fitted on."""

Say = Callable[[str], None]
"""Tells a person how far it is."""


@dataclass(frozen=True)
class Request:
    """What to judge on what."""

    place: ModelPlace
    data: str | None = None
    """Packed set, a folder or URL; None takes the one that the model was trained on."""
    split: str = "test"
    prompts: Path | None = None
    """Prompt file; None takes the packed set's own, else MaCo's template."""
    untrained: bool = False
    """Judge a randomly initialised twin beside."""
    limit: int | None = None
    """Studies judged at most; None is all."""
    name: str | None = None
    """Name of the result; None makes one of set, split and tasks."""
    config: EvaluationConfig = EvaluationConfig()


@dataclass(frozen=True)
class Sets:
    """What is read once and serves both models."""

    packed: PackedSet
    held_out: EvaluationSet
    probe_train: EvaluationSet | None
    prompts: PromptSet | None


class Stopwatch:
    """Seconds per phase."""

    def __init__(self, say: Say) -> None:
        """Start with no phase."""
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Announce a phase and time it."""
        self._say(text)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def evaluate(request: Request, say: Say) -> tuple[Path, dict[str, Any]]:
    """Judge a model, write the figures and the examples, and return the figures' file and its content.

    Raises:
        CheckpointError: The model cannot be loaded.
        DataError: The packed set, its split, the prompts or a task's annotations are missing.
    """
    watch = Stopwatch(say)
    with watch.phase("model", f"loading the model from {request.place.model}"):
        model = load_exported(request.place.model)
        settings = export_settings(request.place.model)
        tokeniser = ReportTokeniser(str(settings.tokenizer), settings.report)
        nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    with watch.phase("data", f"reading split {request.split}"):
        sets = read_sets(request, settings)
    config = request.config
    with watch.phase("trained", f"judging {len(sets.held_out.images):,} images: {', '.join(config.tasks)}"):
        material = _material(model, tokeniser, sets, config)
        figures = run_tasks(material, config)
    if request.untrained:
        with watch.phase("untrained", "judging the untrained twin"):
            figures = with_untrained(figures, judge_untrained(model, tokeniser, sets, config))
    name = request.name or default_name(sets.packed.name, request)
    content = _content(name, request, sets, material, figures)
    with watch.phase("examples", "drawing examples"):
        if config.examples and not (request.place.run or sets.packed.shareable):
            say(
                "no examples: they show reports and radiographs, which go into run folders only, and this model has none"
            )
        elif config.examples:
            private_folder(request.place.evaluations)
            write_examples(
                request.place.evaluations / f"{name}-examples",
                material,
                [" ".join(sentences) for sentences in sets.held_out.sentences],
                count=config.examples,
                seed=config.seed,
                sigma=config.grounding_sigma,
            )
    content["seconds"] = watch.seconds
    path = request.place.evaluations / f"{name}.json"
    write_json(path, content)
    return path, content


def read_sets(request: Request, settings: ExportSettings) -> Sets:
    """Open the packed set and decode what the tasks need. Raises DataError naming what is missing."""
    config = request.config
    packed = PackedSet.open(request.data) if request.data else PackedSet.from_config(training_data(request.place))
    held_out = _read(packed, request.split, settings, limit=request.limit)
    probe_train = None
    if PROBING_TASKS & set(config.tasks):
        probe_train = _probe_set(packed, request, settings)
    prompts = None
    if "zero_shot" in config.tasks:
        prompts = choose_prompts(judgeable_findings(held_out.labels), packed_folder=packed.path, file=request.prompts)
    return Sets(packed, held_out, probe_train, prompts)


def _probe_set(packed: PackedSet, request: Request, settings: ExportSettings) -> EvaluationSet | None:
    """Return training studies for the probes: of the judged set, else of the set that the model was trained on."""
    if request.split == PROBE_SPLIT:
        raise DataError(
            f"the probes are fitted on split {PROBE_SPLIT}: judge another one, or leave them out with --tasks"
        )
    if not packed.counts(PROBE_SPLIT)["samples"]:
        if request.place.run is None:
            return None
        packed = PackedSet.from_config(training_data(request.place))
    return _read(packed, PROBE_SPLIT, settings, limit=request.config.probe_samples, subset=request.config.train_subset)


def training_data(place: ModelPlace) -> DataConfig:
    """Return the section `data` of the run's config.yaml. Raises DataError when there is none."""
    if place.run is None:
        raise DataError(f"{place.model} belongs to no run, so its data is not known: name a packed set with --data")
    path = place.run / "config.yaml"
    try:
        return DataConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))["data"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"{path} does not say which data the run was trained on: name a packed set with --data"
        ) from error


def _read(
    packed: PackedSet, split: str, settings: ExportSettings, *, limit: int | None, subset: str | None = None
) -> EvaluationSet:
    return EvaluationSet.load(
        packed, split, image_size=settings.image_size, report=settings.report, limit=limit, subset=subset
    )


def judge_untrained(model: MSVLModel, tokeniser: ReportTokeniser, sets: Sets, config: EvaluationConfig) -> Judgement:
    """Judge a twin with random weights from `config.seed`; the pixel baseline, which has no model, is not repeated."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        assert isinstance(model.config, MSVLConfig), type(model.config)
        twin = MSVLModel(copy.deepcopy(model.config))
    nn.Module.to(twin, device)
    tasks = tuple(task for task in config.tasks if task != "pixel_baseline")
    config = config.model_copy(update={"tasks": tasks})
    return run_tasks(_material(twin, tokeniser, sets, config), config)


def _material(model: MSVLModel, tokeniser: ReportTokeniser, sets: Sets, config: EvaluationConfig) -> Material:
    return gather_material(
        model,
        tokeniser,
        sets.held_out,
        probe_train=sets.probe_train,
        prompts=sets.prompts,
        config=config,
        progress=sys.stderr.isatty(),
    )


def default_name(data_name: str, request: Request) -> str:
    """Return the result's name: 'phantom-test', with the tasks behind it when they are not the usual ones."""
    parts = [data_name, request.split]
    if request.config.tasks != DEFAULT_TASKS:
        parts += list(request.config.tasks)
    return "-".join(parts)


def _content(name: str, request: Request, sets: Sets, material: Material, figures: dict[str, Any]) -> dict[str, Any]:
    weights = request.place.model / WEIGHTS
    return {
        "name": name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "path": str(request.place.model),
            "step": request.place.step,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        },
        "data": {
            "path": str(sets.packed.location),
            "name": sets.packed.name,
            "split": request.split,
            "fingerprint": sets.packed.fingerprint,
            "shareable": sets.packed.shareable,
            "licence": sets.packed.licence,
            "images": len(material.patients),
            "studies": len(set(material.studies)),
            "patients": len(set(material.patients)),
        },
        "config": request.config.model_dump(mode="json"),
        "untrained": request.untrained,
        "figures": figures,
    }
