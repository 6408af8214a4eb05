"""What probes and fine-tuning share: one training per share of the labels and seed, each a unit; their figures together.

N judged images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msvl.config.errors import DataError
from msvl.evaluation.answers import Answer, Columns, classification_columns
from msvl.evaluation.bootstrap import Bootstrap, auc_statistic, mean_of
from msvl.evaluation.classifiers import Scores, classifier_answer, common_findings, cut_statistics
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.exam import Exam
from msvl.evaluation.findings import Labels
from msvl.evaluation.material import Figures, NotJudgeable, put
from msvl.evaluation.metrics import Floats
from msvl.evaluation.operating_point import Rule
from msvl.evaluation.protocol import Card
from msvl.evaluation.tuning.subsets import label_subset
from msvl.evaluation.units import Unit


@dataclass(frozen=True)
class LabelRatio:
    """One training: which rows of the training split with which labels."""

    ratio: str
    seed: int
    rows: NDArray[np.int64]
    labels: Labels
    """Finding -> labels of these rows; findings of both classes alone."""


def checked_splits(exam: Exam, task: str) -> list[str]:
    """Return the findings to learn.

    Raises NotJudgeable without any, DataError when a patient is in two splits (but for sets packed `--as-published`).
    """
    splits = exam.splits
    if not len(splits.train):
        raise NotJudgeable(f"{task} needs training studies with labels: the packed set has none")
    names = ("train", "val", "test")
    as_published = exam.packed.manifest["source"].get("as_published", False)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            shared = set(getattr(splits, first).patients) & set(getattr(splits, second).patients)
            if shared and not as_published:
                raise DataError(
                    f"{len(shared)} patients (one is {min(shared)}) are in both {first} and {second}, so {task} would be "
                    "judged on what it saw: pack the set again with patient-level splits, or with --as-published to reproduce "
                    "published lists"
                )
    findings = common_findings([splits.train.labels, splits.val.labels, splits.test.labels])
    if not findings:
        raise NotJudgeable(f"{task} needs a finding with positive and negative labels in train, val and test")
    return findings


def ratio_answer(
    exam: Exam,
    card: Card,
    config: EvaluationConfig,
    ratios: Sequence[str],
    fit: Callable[[LabelRatio], Unit],
    *,
    judge_rule: Rule,
) -> Answer:
    """Collective. Run `fit` for every share and seed of the card and return figures 'NAME_at_RATIO'.

    A finding that a small share holds one class of only is scored 0.5 there: nothing can be learnt of it.

    Args:
        exam: The exam.
        card: Its seeds draw the labels and start the trainings.
        config: Resamples and seed of the intervals.
        ratios: Percent of the labels.
        fit: Returns 'val/FINDING' and 'test/FINDING', decision values.
        judge_rule: How thresholds are chosen on val.
    """
    findings = checked_splits(exam, card.task.replace("_", " "))
    test = exam.splits.test
    trainings, left_out = _trainings(exam, card, findings, ratios)
    ratios = [ratio for ratio in ratios if f"left_out_at_{ratio}" not in left_out]
    # The longest first: ranks that share them end together.
    longest = dict(reversed(trainings.items()))
    units = exam.store(card=card.digest).run({name: _bound(fit, training) for name, training in longest.items()})
    bootstrap = Bootstrap(test.patients, resamples=config.resamples, seed=config.seed)
    without = Bootstrap(test.patients, resamples=0)
    figures: Figures = dict(left_out)
    columns: Columns = {}
    calibrated = None
    for ratio in ratios:
        answers, seen = [], []
        for seed in card.seeds:
            scores = _scores(units[f"{card.task}-{ratio}-seed{seed}"], exam, findings)
            answers.append(
                classifier_answer(scores, exam.splits.val, test, rule=judge_rule, on_test=False, bootstrap=without)
            )
            seen.append(scores.test)
            columns |= classification_columns(
                f"auc_mean_at_{ratio}", test.labels, scores.test, test.keys, test.patients, suffix=f"/seed{seed}"
            )
        figures |= _over_seeds([dict(answer.figures) for answer in answers], ratio)
        _put_intervals(figures, ratio, [answer.figures for answer in answers], seen, test.labels, bootstrap)
        found = {str(seed): units[f"{card.task}-{ratio}-seed{seed}"] for seed in card.seeds}
        if all("best_factor" in unit for unit in found.values()):
            figures[f"lr_factor_at_{ratio}_by_seed"] = {
                seed: float(unit["best_factor"]) for seed, unit in found.items()
            }
        figures[f"training_images_at_{ratio}"] = len(trainings[f"{card.task}-{ratio}-seed{card.seeds[0]}"].rows)
        calibrated = answers[0].classified
    figures["seeds"] = len(card.seeds)
    figures |= _headline(figures, ratios[-1])
    return Answer(figures, columns, calibrated)


def _trainings(
    exam: Exam, card: Card, findings: list[str], ratios: Sequence[str]
) -> tuple[dict[str, LabelRatio], dict[str, str]]:
    """Return the trainings by name, and why a share is too small. Raises NotJudgeable when all of them are."""
    trainings: dict[str, LabelRatio] = {}
    left_out: dict[str, str] = {}
    for ratio in ratios:
        try:
            own = {f"{card.task}-{ratio}-seed{seed}": _training(exam, findings, ratio, seed) for seed in card.seeds}
        except NotJudgeable as error:
            left_out[f"left_out_at_{ratio}"] = str(error)
            continue
        trainings |= own
    if not trainings:
        raise NotJudgeable(" ".join(left_out.values()))
    return trainings, left_out


def _bound(fit: Callable[[LabelRatio], Unit], training: LabelRatio) -> Callable[[], Unit]:
    return lambda: fit(training)


def _training(exam: Exam, findings: list[str], ratio: str, seed: int) -> LabelRatio:
    rows = label_subset(exam.splits.train, ratio, seed)
    labels = {name: exam.splits.train.labels[name][rows] for name in findings}
    both = {name: values for name, values in labels.items() if {0, 1} <= set(values.tolist())}
    if not both:
        raise NotJudgeable(f"{len(rows):,} training images ({ratio} %) hold no finding with both classes")
    return LabelRatio(ratio, seed, rows, both)


def _scores(unit: Unit, exam: Exam, findings: list[str]) -> Scores:
    blank = {"val": np.zeros(len(exam.splits.val)), "test": np.zeros(len(exam.splits.test))}
    return Scores(
        *({name: unit.get(f"{split}/{name}", blank[split]) for name in findings} for split in ("val", "test"))
    )


def _over_seeds(found: list[dict[str, Any]], ratio: str) -> Figures:
    """Return the mean over seeds of every figure, the spread between seeds, and the first seed's counts."""
    figures: Figures = {}
    for name, value in found[0].items():
        every = [item[name] for item in found]
        if isinstance(value, float):
            figures[f"{name}_at_{ratio}"] = float(np.mean(every))
            if name.endswith("_mean"):
                figures[f"{name}_at_{ratio}_spread"] = float(np.std(every))
        elif name in ("auc", "f1", "accuracy"):
            figures[f"{name}_at_{ratio}"] = {key: float(np.mean([item[key] for item in every])) for key in value}
        elif name in ("positives", "negatives") or name.startswith("reliability"):
            figures[name] = value
    return figures


def _put_intervals(
    figures: Figures,
    ratio: str,
    answers: Sequence[Mapping[str, Any]],
    seen: Sequence[Mapping[str, Floats]],
    labels: Labels,
    bootstrap: Bootstrap,
) -> None:
    """Put the intervals of the means over seeds beside them: the same patients are drawn for every seed.

    Args:
        figures: With the means at `ratio`.
        ratio: Percent of the labels.
        answers: Per seed, figures with thresholds.
        seen: Per seed, finding -> [N].
        labels: Finding -> [N].
        bootstrap: Over the patients of the N images.
    """
    every = [
        {"auc": {name: auc_statistic(labels[name], values) for name, values in scores.items()}}
        | cut_statistics(labels, scores, own["threshold"])
        for own, scores in zip(answers, seen, strict=True)
    ]
    for kind in every[0]:
        over_seeds = {name: mean_of([own[kind][name] for own in every]) for name in every[0][kind]}
        name = f"{kind}_mean_at_{ratio}"
        put(figures, name, figures[name], bootstrap.interval(mean_of([*over_seeds.values()])))  # type: ignore[arg-type]
        if kind == "auc":
            found = {name: bootstrap.interval(statistic) for name, statistic in over_seeds.items()}
            bounds = {name: list(interval) for name, interval in found.items() if isinstance(interval, tuple)}
            if bounds:
                figures[f"auc_at_{ratio}_interval"] = bounds


def _headline(figures: Figures, ratio: str) -> Figures:
    """Return the figures of the largest share under their plain names."""
    plain = {}
    for name in ("auc_mean", "f1_mean"):
        for end in ("", "_interval"):
            if f"{name}_at_{ratio}{end}" in figures:
                plain[f"{name}{end}"] = figures[f"{name}_at_{ratio}{end}"]
    return plain
