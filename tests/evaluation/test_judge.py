"""The whole judgement in a world whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from msvl.config.errors import DataError
from msvl.data.study import Box
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.judge import flatten, gather_material, judge, phrase_pairs
from msvl.evaluation.prompts import FindingPrompts, PromptSet
from msvl.evaluation.tasks import retrieval
from tests.evaluation.toy import ToyModel, ToyTokeniser, toy_set

ALL = ("zero_shot", "retrieval", "grounding", "linear_probe", "ridge_probe", "pixel_baseline")
SPOT = FindingPrompts(("There is a spot.", "a spot"), ("No spot.", "lungs clear"))
PROMPTS = PromptSet({"spot": SPOT}, origin="test")


def config(**changes: object) -> EvaluationConfig:
    return EvaluationConfig(**({"resamples": 100, "batch_size": 7} | changes))


def test_a_model_that_sees_everything_gets_full_marks() -> None:
    figures = judge(
        ToyModel(), ToyTokeniser(), toy_set(), probe_train=toy_set(96, prefix="t"), prompts=PROMPTS,
        config=config(tasks=ALL),
    )  # fmt: skip
    assert list(figures) == list(ALL)
    assert figures["zero_shot"]["auc_mean"] == 1.0
    assert figures["zero_shot"]["auc_mean_local"] == 1.0
    assert figures["zero_shot"]["auc_mean_both"] == 1.0
    assert figures["retrieval"]["report_r1"] == 1.0
    assert figures["retrieval"]["image_r1"] == 1.0
    assert figures["grounding"]["pointing"] == 1.0
    assert figures["grounding"]["cnr"] > 2.0
    assert figures["grounding"]["miou"] > 0.5
    assert figures["linear_probe"]["auc_mean"] == 1.0
    assert figures["ridge_probe"]["auc_mean"] == 1.0
    assert figures["pixel_baseline"]["auc_mean"] == 1.0


def test_a_blind_model_is_at_chance_everywhere() -> None:
    figures = judge(
        ToyModel(blind=True), ToyTokeniser(), toy_set(), probe_train=toy_set(96, prefix="t"), prompts=PROMPTS,
        config=config(tasks=ALL),
    )  # fmt: skip
    assert figures["zero_shot"]["auc_mean"] == 0.5
    for name in ("report_r1", "report_r5", "image_r10"):
        assert figures["retrieval"][name] == pytest.approx(figures["retrieval"][f"{name}_chance"])
    assert figures["grounding"]["cnr"] == 0.0
    assert figures["grounding"]["miou"] == 0.0
    assert figures["grounding"]["pointing"] == pytest.approx(figures["grounding"]["pointing_chance"])
    assert figures["linear_probe"]["auc_mean"] == 0.5


def test_chance_of_retrieval_counts_the_normal_reports_as_equal() -> None:
    figures = judge(ToyModel(), ToyTokeniser(), toy_set(), config=config(tasks=("retrieval",)))
    assert figures["retrieval"]["report_r1_chance"] > 5 / 48  # a third of the reports say the same


def test_every_headline_has_an_interval_that_holds_it() -> None:
    noisy = toy_set(noise=0.9)
    train = toy_set(96, prefix="t", noise=0.9)
    figures = judge(ToyModel(), ToyTokeniser(), noisy, probe_train=train, prompts=PROMPTS, config=config())
    for task, names in {
        "zero_shot": ("auc_mean",),
        "retrieval": ("report_r1", "report_r5", "report_r10", "image_r5"),
        "grounding": ("cnr", "miou", "pointing"),
        "linear_probe": ("auc_mean",),
    }.items():
        for name in names:
            low, high = figures[task][f"{name}_interval"]
            assert low <= figures[task][name] <= high, (task, name)


def test_no_intervals_without_resamples() -> None:
    none = config(tasks=("zero_shot",), resamples=0)
    figures = judge(ToyModel(), ToyTokeniser(), toy_set(), prompts=PROMPTS, config=none)
    assert not [name for name in figures["zero_shot"] if name.endswith("_interval")]


def test_the_result_does_not_depend_on_the_batch_size() -> None:
    first, second = (
        judge(ToyModel(), ToyTokeniser(), toy_set(noise=0.5), prompts=PROMPTS,
              config=config(tasks=("zero_shot", "retrieval", "grounding"), batch_size=size, resamples=0))
        for size in (5, 48)
    )  # fmt: skip
    assert flatten(first) == pytest.approx(flatten(second), rel=1e-5)


def test_uncertain_and_unknown_labels_are_skipped() -> None:
    held_out = toy_set()
    held_out.labels["spot"][:6] = [-1, -2, -1, -2, -1, -2]
    figures = judge(ToyModel(), ToyTokeniser(), held_out, prompts=PROMPTS, config=config(tasks=("zero_shot",)))
    counts = figures["zero_shot"]["positives"]["spot"], figures["zero_shot"]["negatives"]["spot"]
    assert counts == (28, 14)
    assert figures["zero_shot"]["auc_mean"] == 1.0


@pytest.mark.parametrize("label", ["No Finding", "normal", "no_finding"])
def test_a_label_that_says_that_nothing_was_found_is_in_no_mean(label: str) -> None:
    prompts = PromptSet({"spot": SPOT, label: FindingPrompts(("lungs clear",), ("a spot",))}, origin="test")
    held_out, train = toy_set(noise=0.9), toy_set(96, prefix="t", noise=0.9)
    bare = judge(ToyModel(), ToyTokeniser(), held_out, probe_train=train, prompts=prompts, config=config(tasks=ALL))
    for own in (held_out, train):
        own.labels[label] = np.arange(len(own.labels["spot"])) % 2
    both = judge(ToyModel(), ToyTokeniser(), held_out, probe_train=train, prompts=prompts, config=config(tasks=ALL))
    assert both == bare
    assert set(both["zero_shot"]["auc"]) == set(both["linear_probe"]["auc"]) == {"spot"}


def test_the_score_can_be_chosen_and_the_others_stand_beside() -> None:
    chosen = config(tasks=("zero_shot",), zero_shot_score="local", resamples=0)
    figures = judge(ToyModel(), ToyTokeniser(), toy_set(), prompts=PROMPTS, config=chosen)["zero_shot"]
    assert {"auc_mean", "auc_mean_global", "auc_mean_both"} <= set(figures)
    assert "auc_mean_local" not in figures
    assert figures["score"] == "local"


def test_one_image_per_study_takes_part_in_retrieval() -> None:
    held_out = toy_set()
    held_out.studies = [f"s{row // 2}" for row in range(48)]
    figures = judge(ToyModel(), ToyTokeniser(), held_out, config=config(tasks=("retrieval",)))
    assert figures["retrieval"]["gallery"] == 24


def test_the_model_is_judged_in_evaluation_mode_and_given_back_as_it_was() -> None:
    model = ToyModel().train()
    judge(model, ToyTokeniser(), toy_set(), config=config(tasks=("retrieval",)))
    assert model.training
    assert set(model.modes) == {False}


def test_a_patient_on_both_sides_stops_the_probe() -> None:
    train = toy_set(96, prefix="t")
    train.patients[5] = "p3"
    with pytest.raises(DataError, match=r"^1 patients \(one is p3\) are in both .* pack the set again"):
        judge(ToyModel(), ToyTokeniser(), toy_set(), probe_train=train, config=config(tasks=("linear_probe",)))


def test_a_probe_without_training_studies_says_so() -> None:
    with pytest.raises(DataError, match="the linear probe needs training studies with labels"):
        judge(ToyModel(), ToyTokeniser(), toy_set(), config=config(tasks=("linear_probe",), strict=True))


def test_zero_shot_without_a_finding_of_both_classes_says_so() -> None:
    held_out = toy_set()
    held_out.labels = {"spot": np.ones(48, dtype=np.int64)}
    with pytest.raises(DataError, match="needs a finding with positive and negative labels"):
        judge(ToyModel(), ToyTokeniser(), held_out, config=config(tasks=("zero_shot",), strict=True))


def test_grounding_without_boxes_says_so() -> None:
    held_out = toy_set()
    held_out.boxes = [[] for _ in range(48)]
    with pytest.raises(DataError, match="grounding needs phrases with boxes"):
        judge(ToyModel(), ToyTokeniser(), held_out, config=config(tasks=("grounding",), strict=True))


def test_what_the_data_cannot_judge_is_left_out_with_the_reason() -> None:
    held_out = toy_set()
    held_out.boxes = [[] for _ in range(48)]
    figures = judge(ToyModel(), ToyTokeniser(), held_out, prompts=PROMPTS, config=config())
    assert figures["zero_shot"]["auc_mean"] == 1.0
    assert set(figures["grounding"]) == set(figures["linear_probe"]) == {"left_out"}
    assert figures["grounding"]["left_out"].startswith("grounding needs phrases with boxes")
    assert not [name for name in flatten(figures) if name.startswith(("grounding", "linear_probe"))]


def test_a_box_outside_the_square_is_counted_and_left_out() -> None:
    held_out = toy_set()
    held_out.boxes[1] = [Box("There is a spot.", 100, 100, 5, 5, "spot")]
    figures = judge(ToyModel(), ToyTokeniser(), held_out, config=config(tasks=("grounding",)))["grounding"]
    assert (figures["pairs"], figures["pairs_outside_crop"]) == (31, 1)
    assert figures["pointing"] == 1.0


def test_boxes_of_one_phrase_in_one_image_are_one_pair() -> None:
    boxes = [[Box("a", 0, 0, 1, 1), Box("b", 1, 1, 1, 1), Box("a", 2, 2, 1, 1)], [Box("a", 3, 3, 1, 1)]]
    pairs = phrase_pairs(boxes)
    assert [(pair.row, pair.phrase, len(pair.boxes)) for pair in pairs] == [(0, "a", 2), (0, "b", 1), (1, "a", 1)]


def test_intervals_are_drawn_over_patients_and_not_over_images() -> None:
    widths = []
    for patients in ([f"p{row}" for row in range(48)], [f"p{row // 12}" for row in range(48)], ["p"] * 48):
        held_out = toy_set(noise=0.9)
        held_out.patients = patients
        figures = judge(ToyModel(), ToyTokeniser(), held_out, config=config(tasks=("grounding",)))["grounding"]
        low, high = figures["cnr_interval"] or (0.0, 0.0)
        widths.append(high - low)
    assert widths[0] > 0 and widths[1] > 0 and widths[0] != widths[1]
    assert widths[2] == 0.0  # one patient: nothing to draw from, no interval


def test_reports_are_found_by_images_and_images_by_reports() -> None:
    # Report 0 attracts every image; each report's own image is its nearest.
    image = torch.tensor([[1.0, 0.1, 0.0], [0.9, 0.5, 0.0], [0.9, 0.0, 0.5]])
    reports = torch.tensor([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [0.1, 0.0, 1.0]])
    held_out = toy_set(3)
    material = gather_material(ToyModel(), ToyTokeniser(), held_out, prompts=PROMPTS, config=config())
    encoded = replace(material.encoded, image=image)
    material = replace(material, encoded=encoded, reports=reports, texts=["a", "b", "c"], studies=["x", "y", "z"])
    figures = retrieval.run(material, config(resamples=0))
    assert figures["report_r1"] == pytest.approx(1 / 3)
    assert figures["image_r1"] == 1.0
