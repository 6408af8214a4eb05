"""Shares of the labels and seeds put together: means, spreads, intervals, what is learnt from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.evaluation.answers import figure_statistic
from msvl.evaluation.bootstrap import Bootstrap, auc_statistic, mean_of
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.findings import auc_figures
from msvl.evaluation.operating_point import plain
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks.label_ratios import LabelRatio, ratio_answer
from msvl.evaluation.recipes import ProbeRecipe
from msvl.evaluation.units import Unit, UnitStore

SEEDS = (3, 0, 7)
CARD = Card(task="linear_probe", data="any", headline="auc_mean", seeds=SEEDS, linear_probe=ProbeRecipe())
FINDINGS = ("effusion", "nodule")


class Split(SimpleNamespace):
    """Three images a patient, two findings."""

    def __len__(self) -> int:
        return len(self.keys)


def split(name: str, count: int) -> Split:
    generator = np.random.default_rng(count)
    return Split(
        labels={finding: generator.integers(0, 2, count) for finding in FINDINGS},
        patients=[f"{name}{row // 3}" for row in range(count)], keys=[f"{name}-{row}" for row in range(count)],
        extras=[{}] * count,
    )  # fmt: skip


def exam(folder: Path) -> Any:
    splits = SimpleNamespace(train=split("a", 150), val=split("b", 45), test=split("c", 60))
    return SimpleNamespace(
        splits=splits,
        packed=SimpleNamespace(manifest={"source": {}}),
        store=lambda card: UnitStore(folder / card),
    )


def scores(own: Any, name: str, ratio: str, seed: int) -> dict[str, np.ndarray]:
    """Decision values of one training, better the more labels there were."""
    generator = np.random.default_rng([seed, int(ratio), len(name)])
    labels = getattr(own.splits, name).labels
    return {finding: generator.normal(size=len(values)) + values * int(ratio) / 50 for finding, values in labels.items()}  # fmt: skip


def judged(folder: Path) -> tuple[Any, Any, list[LabelRatio]]:
    """Return the exam, its answer and the trainings that were asked for."""
    own, seen = exam(folder), []

    def fit(ratio: LabelRatio) -> Unit:
        seen.append(ratio)
        found = {name: scores(own, name, ratio.ratio, ratio.seed) for name in ("val", "test")}
        return {f"{name}/{finding}": values for name, item in found.items() for finding, values in item.items()}

    answer = ratio_answer(own, CARD, EvaluationConfig(resamples=60), ("10", "100"), fit, judge_rule="youden")
    return own, answer, seen


def test_figures_are_means_over_seeds_beside_their_spread(tmp_path: Path) -> None:
    own, answer, _ = judged(tmp_path)
    test, figures = own.splits.test, answer.figures
    bootstrap = Bootstrap(test.patients, resamples=60)
    for ratio in ("10", "100"):
        found = [auc_figures(test.labels, scores(own, "test", ratio, seed), bootstrap) for seed in SEEDS]
        means: list[Any] = [item["auc_mean"] for item in found]
        assert figures[f"auc_mean_at_{ratio}"] == pytest.approx(np.mean(means))
        assert figures[f"auc_mean_at_{ratio}_spread"] == pytest.approx(np.std(means))
        interval = bootstrap.interval(figure_statistic(answer.columns, f"auc_mean_at_{ratio}"))
        assert figures[f"auc_mean_at_{ratio}_interval"] == pytest.approx(interval)
        for finding in FINDINGS:
            each = [item["auc"][finding] for item in found]
            assert figures[f"auc_at_{ratio}"][finding] == pytest.approx(np.mean(each))
            drawn = mean_of([
                auc_statistic(test.labels[finding], scores(own, "test", ratio, seed)[finding]) for seed in SEEDS
            ])  # fmt: skip
            assert figures[f"auc_at_{ratio}_interval"][finding] == pytest.approx(bootstrap.interval(drawn))
        for kind in ("f1_mean", "f1_weighted_mean", "accuracy_mean"):
            low, high = figures[f"{kind}_at_{ratio}_interval"]
            assert low < figures[f"{kind}_at_{ratio}"] < high
    assert figures["auc_mean"] == figures["auc_mean_at_100"] != figures["auc_mean_at_10"]
    assert figures["auc_mean_interval"] == figures["auc_mean_at_100_interval"]
    assert figures["seeds"] == 3


def test_seeds_make_the_interval_of_their_mean_narrower_than_that_of_one(tmp_path: Path) -> None:
    # What seeds disagree about is averaged away; what is the luck of the patients stays.
    own, answer, _ = judged(tmp_path)
    bootstrap = Bootstrap(own.splits.test.patients, resamples=60)
    low, high = answer.figures["auc_mean_at_10_interval"]
    single = [auc_figures(own.splits.test.labels, scores(own, "test", "10", seed), bootstrap)["auc_mean_interval"] for seed in SEEDS]  # fmt: skip
    assert high - low < min(end - start for start, end in single)


def test_columns_hold_every_seed_so_that_models_can_be_paired(tmp_path: Path) -> None:
    own, answer, _ = judged(tmp_path)
    statistic = figure_statistic(answer.columns, "auc_mean_at_10")
    assert plain(statistic, len(own.splits.test)) == pytest.approx(answer.figures["auc_mean_at_10"])
    assert len([name for name in answer.columns if name.startswith("auc_mean_at_10/")]) == 2 * len(SEEDS)


def test_every_seed_draws_its_own_labels_and_all_of_them_at_100(tmp_path: Path) -> None:
    own, answer, seen = judged(tmp_path)
    rows = {(item.ratio, item.seed): item.rows.tolist() for item in seen}
    assert set(rows) == {(ratio, seed) for ratio in ("10", "100") for seed in SEEDS}
    few = [rows["10", seed] for seed in SEEDS]
    assert few[0] != few[1] and few[1] != few[2] and all(len(own) == 15 for own in few)
    assert all(rows["100", seed] == list(range(150)) for seed in SEEDS)
    assert (answer.figures["training_images_at_10"], answer.figures["training_images_at_100"]) == (15, 150)
    for item in seen:
        for name, values in item.labels.items():
            assert values.tolist() == own.splits.train.labels[name][item.rows].tolist()


@pytest.mark.parametrize("places", [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_patient_in_two_splits_stops_it(places: tuple[str, str], tmp_path: Path) -> None:
    own = exam(tmp_path)
    getattr(own.splits, places[1]).patients[0] = getattr(own.splits, places[0]).patients[0]

    def fit(ratio: LabelRatio) -> Unit:
        raise AssertionError("trained on what it is judged on")

    with pytest.raises(
        DataError, match=rf"1 patients \(one is .*\) are in both {places[0]} and {places[1]}, so linear"
    ):
        ratio_answer(own, CARD, EvaluationConfig(resamples=0), ("100",), fit, judge_rule="youden")
    own.packed.manifest["source"]["as_published"] = True
    with pytest.raises(AssertionError, match="trained on what"):
        ratio_answer(own, CARD, EvaluationConfig(resamples=0), ("100",), fit, judge_rule="youden")
