"""Figures of a classifier, whoever it is: AUC, F1 and accuracy at thresholds from validation, calibration, intervals.

N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msvl.data.evaluation_set import EvaluationSet
from msvl.evaluation.answers import Answer, Classified, Columns, classification_columns
from msvl.evaluation.bootstrap import Bootstrap, Interval, Statistic, mean_of
from msvl.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    fit_platt,
    reliability,
)
from msvl.evaluation.findings import auc_figures
from msvl.evaluation.material import Figures, put
from msvl.evaluation.metrics import Floats
from msvl.evaluation.operating_point import (
    Rule,
    accuracy_statistic,
    choose_threshold,
    f1_statistic,
    plain,
    weighted_f1_statistic,
)

CUT_FIGURES = {"f1": f1_statistic, "f1_weighted": weighted_f1_statistic, "accuracy": accuracy_statistic}


@dataclass(frozen=True)
class Scores:
    """A classifier's decision values: finding -> [N] of each split."""

    val: Mapping[str, Floats]
    test: Mapping[str, Floats]


def classifier_answer(
    scores: Scores, val: EvaluationSet, test: EvaluationSet, *, rule: Rule, on_test: bool, bootstrap: Bootstrap
) -> Answer:
    """Return figures, columns and calibration of one classifier.

    Args:
        scores: Of findings that have both classes in both splits.
        val: Where thresholds and calibration are fitted.
        test: What is judged.
        rule: How the threshold is chosen.
        on_test: Choose it on the judged labels themselves, as some papers do.
        bootstrap: Over the patients of `test`.
    """
    labels = {name: test.labels[name] for name in scores.test}
    figures = auc_figures(labels, scores.test, bootstrap)
    tuned = (test.labels, scores.test) if on_test else (val.labels, scores.val)
    thresholds = {name: choose_threshold(tuned[0][name], tuned[1][name], rule) for name in scores.test}
    for kind, parts in cut_statistics(labels, scores.test, thresholds).items():
        put(figures, f"{kind}_mean", *_with_interval(mean_of([*parts.values()]), len(test.patients), bootstrap))
        figures[kind] = {name: plain(part, len(test.patients)) for name, part in parts.items()}
    figures["threshold"] = thresholds
    figures["threshold_from"] = "test" if on_test else "val"
    platt = {name: fit_platt(val.labels[name], values) for name, values in scores.val.items()}
    figures |= calibration_figures(labels, {name: platt[name](values) for name, values in scores.test.items()})
    columns: Columns = classification_columns("auc_mean", labels, scores.test, test.keys, test.patients)
    return Answer(figures, columns, Classified(dict(scores.test), platt))


def cut_statistics(
    labels: Mapping[str, NDArray[np.int64]], scores: Mapping[str, Floats], thresholds: Mapping[str, float]
) -> dict[str, dict[str, Statistic]]:
    """Return 'f1', 'f1_weighted' and 'accuracy' -> finding -> the figure at its threshold as a function of sample weights.

    Args:
        labels: Finding -> [N].
        scores: Finding -> [N].
        thresholds: Finding -> value from which on it is said to be there.
    """
    return {
        kind: {name: make(labels[name], values, thresholds[name]) for name, values in scores.items()}
        for kind, make in CUT_FIGURES.items()
    }


def _with_interval(statistic: Statistic, count: int, bootstrap: Bootstrap) -> tuple[float, Interval]:
    return plain(statistic, count), bootstrap.interval(statistic)


def calibration_figures(labels: Mapping[str, NDArray[np.int64]], probabilities: Mapping[str, Floats]) -> Figures:
    """Return mean Brier score and calibration error over findings, and the reliability of all findings together.

    Args:
        labels: Finding -> [N].
        probabilities: Finding -> [N].
    """
    tables = {name: reliability(labels[name], values) for name, values in probabilities.items()}
    together = reliability(
        np.concatenate([labels[name] for name in probabilities]), np.concatenate(list(probabilities.values()))
    )
    return {
        "brier": float(np.mean([brier_score(labels[name], values) for name, values in probabilities.items()])),
        "calibration_error": float(np.mean([expected_calibration_error(table) for table in tables.values()])),
        "reliability_said": [round(float(value), 6) for value in np.nan_to_num(together.said, nan=-1)],
        "reliability_happened": [round(float(value), 6) for value in np.nan_to_num(together.happened, nan=-1)],
        "reliability_count": [float(value) for value in together.count],
    }


def common_findings(splits: Sequence[Mapping[str, NDArray[np.int64]]]) -> list[str]:
    """Return the findings that have both classes in every split."""
    first, *others = ({name for name, values in labels.items() if {0, 1} <= set(values.tolist())} for labels in splits)
    return sorted(first.intersection(*others))
