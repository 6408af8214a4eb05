"""A run folder as training and judgement leave it, made of the toy world."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.examples import write_examples
from msvl.evaluation.figures import with_untrained, write_json
from msvl.evaluation.judge import gather_material, run_tasks
from msvl.evaluation.prompts import FindingPrompts, PromptSet
from tests.evaluation.toy import ToyModel, ToyTokeniser, toy_set

SCALES = {"total": 14.0, "global": 8.3, "local": 8.3, "instance": 0.64, "modality": 7.5}


def write_toy_run(folder: Path, *, shareable: bool = True, judged: bool = True) -> Path:
    """Write metrics, run.json, config.yaml and, when `judged`, two evaluations with examples."""
    folder.mkdir(parents=True)
    lines = []
    for step in range(10, 410, 10):
        record: dict[str, Any] = {"step": step, "seconds": step / 2, "attempt": 1}
        record |= {f"loss/{name}": start * (0.4 + 0.6 * math.exp(-step / 120)) for name, start in SCALES.items()}
        record |= {"throughput/pairs_per_second": 130.0 + step % 7, "throughput/waiting_share": 0.02, "train/lr": 5e-4}
        lines.append(json.dumps(record))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = {"ranks": 2, "zero_stage": 2, "precision": "fp32", "parameters": 3_210_000, "data_fingerprint": "own"}
    write_json(
        folder / "run.json", {"name": folder.name, "facts": facts, "versions": {"torch": "2"}, "git_commit": "abc"}
    )
    (folder / "config.yaml").write_text("run:\n  name: toy <run>\n", encoding="utf-8")
    if judged:
        write_toy_evaluation(folder, "test", fingerprint="own", shareable=shareable, count=60)
        write_toy_evaluation(folder, "shifted", fingerprint="other", shareable=shareable, count=36)
    return folder


def write_toy_evaluation(folder: Path, name: str, *, fingerprint: str, shareable: bool, count: int) -> None:
    """Write evaluation/NAME.json and its examples."""
    held_out, train = toy_set(count, noise=0.6), toy_set(90, prefix="t", noise=0.6)
    prompts = PromptSet({"spot": FindingPrompts(("a spot",), ("no spot",))}, origin="prompts.json")
    config = EvaluationConfig(resamples=200, examples=4)
    judgements = []
    for model in (ToyModel(), ToyModel(blind=True)):
        material = gather_material(model, ToyTokeniser(), held_out, probe_train=train, prompts=prompts, config=config)
        judgements.append(run_tasks(material, config))
        if not model.blind:
            examples = folder / "evaluation" / f"{name}-examples"
            write_examples(
                examples, material, [" ".join(own) for own in held_out.sentences], count=4, seed=0, sigma=0.0
            )
    data = {
        "name": "toy", "split": "test", "fingerprint": fingerprint, "shareable": shareable, "licence": "CC0 & more",
        "images": count, "patients": count, "studies": count, "path": "shards/toy",
    }  # fmt: skip
    content = {
        "name": name,
        "model": {"path": "m", "step": 400, "sha256": "0"},
        "data": data,
        "figures": with_untrained(*judgements),
        "seconds": {"trained": 1.5},
    }
    write_json(folder / "evaluation" / f"{name}.json", content)
