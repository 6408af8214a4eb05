"""Judgement by a protocol, from a packed set to figures: every task, with its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from msvl.cli import main
from msvl.config.errors import ConfigError, DataError
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.protocol_command import TASKS
from tests.evaluation.judged_runs import (
    content_of,
    fast_protocol,
    judge,
    main_debug,
    make_run,
    pack_phantom,
)

torch.set_num_threads(1)


@pytest.mark.evidence(
    "`msvl evaluate RUN --protocol NAME` judges the paper's tasks, and every figure carries its protocol card",
    how="cpu",
)
def test_every_task_is_judged_and_every_figure_has_its_card(judged: Path) -> None:
    content = content_of(judged)
    assert tuple(content["figures"]) == TASKS
    for task, figures in content["figures"].items():
        card = content["cards"][task]
        assert "left_out" not in figures, figures
        assert card["card"] == f"fast/{task}/any"
        assert card["digest"] == read_protocol(str(judged.parent / "fast.yaml")).card(task, "any").digest
        assert isinstance(figures[card["headline"]], float)
        assert f"{card['headline']}_untrained" in figures, task
        assert card["splits"] == "the packed set's own, by patient"


def test_figures_have_intervals_and_several_flavours(judged: Path) -> None:
    figures = content_of(judged)["figures"]
    assert {"f1_mean", "accuracy_mean", "threshold", "auc_mean_by_prompts", "brier"} <= set(figures["zero_shot"])
    assert {"maco", "chexzero", "biovil", "cxr_clip", "plain", "own"} == set(
        figures["zero_shot"]["auc_mean_by_prompts"]
    )
    for name in ("auc_mean_at_10", "auc_mean_at_100", "auc_mean_at_100_spread", "auc_mean_interval"):
        assert name in figures["linear_probe"] and (name in figures["fine_tuned"])
    for name in (
        "dice_image_at_100",
        "dice_batched_at_100",
        "dice_pooled_at_100",
        "dice_positive_at_100",
        "dice_image_chance",
    ):
        assert 0 <= figures["segmentation"][name] <= 1
    assert {"miou_micro", "miou_macro", "cnr_absolute_micro", "iou_0.3", "pointing_chance"} <= set(figures["grounding"])
    assert {"report_r5_fold", "image_r1", "report_median_rank"} <= set(figures["retrieval"])
    assert figures["linear_probe"]["training_images_at_10"] == 10


def test_what_the_data_lack_is_left_out_with_the_reason(judged: Path, tmp_path: Path) -> None:
    bare = pack_phantom(tmp_path / "bare", train=0, val=0, test=20)
    with pytest.raises(DataError, match="linear probe needs training studies with labels"):
        main_debug(["evaluate", str(judged), "--data", str(bare), "--protocol", "clean", "--tasks", "linear_probe"])
    assert (
        main(
            ["evaluate", str(judged), "--data", str(bare), "--protocol", "clean", "--resamples", "0", "--name", "bare"]
        )
        == 0
    )
    figures = json.loads((judged / "evaluation" / "bare.json").read_text())["figures"]
    assert "left_out" in figures["segmentation"] and "left_out" in figures["zero_shot"]
    assert "report_r5" in figures["retrieval"] and "miou" in figures["grounding"]


def test_options_that_belong_to_the_card_are_refused(judged: Path) -> None:
    with pytest.raises(ConfigError, match="--sigma belongs to the card"):
        main_debug(["evaluate", str(judged), "--protocol", "clean", "--sigma", "1"])
    with pytest.raises(ConfigError, match="with --protocol the tasks are zero_shot, retrieval"):
        main_debug(["evaluate", str(judged), "--protocol", "clean", "--tasks", "ridge_probe"])
    with pytest.raises(ConfigError, match="several processes need --protocol"):
        main_debug(["evaluate", str(judged), "--ranks", "2"])
    with pytest.raises(ConfigError, match="--page x.md: the page holds the tables of --protocol"):
        main_debug(["evaluate", str(judged), "--page", "x.md"])


def test_a_task_without_a_card_is_left_out_with_the_reason(judged: Path, packed: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((judged.parent / "fast.yaml").read_text())
    tree["cards"] = [card for card in tree["cards"] if card["task"] == "retrieval"]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(tree | {"name": "few"}))
    run = make_run(tmp_path / "few", packed)
    assert main(["evaluate", str(run), "--protocol", str(file), "--resamples", "0"]) == 0
    figures = json.loads((run / "evaluation" / "phantom-test-few.json").read_text())["figures"]
    assert figures["zero_shot"] == {"left_out": "protocol few has no card for it on phantom"}
    assert "report_r5" in figures["retrieval"]
    with pytest.raises(ConfigError, match="protocol few has no card for grounding on phantom; it has retrieval"):
        main_debug(["evaluate", str(run), "--protocol", str(file), "--tasks", "grounding"])


def test_figures_are_over_the_findings_of_the_card(judged: Path, packed: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((judged.parent / "fast.yaml").read_text())
    for card in tree["cards"]:
        if card["task"] in ("zero_shot", "linear_probe"):
            card["findings"] = ["nodule", "cardiomegaly", "fracture"]
    file = tmp_path / "some.yaml"
    file.write_text(yaml.safe_dump(tree | {"name": "some"}))
    words = ["--tasks", "zero_shot,linear_probe", "--resamples", "0"]
    assert main(["evaluate", str(judged), "--protocol", str(file), *words]) == 0
    content = json.loads((judged / "evaluation" / "phantom-test-some.json").read_text())
    for task, figure in (("zero_shot", "auc"), ("linear_probe", "auc_at_100")):
        assert set(content["figures"][task][figure]) == {"nodule", "cardiomegaly"}
        assert content["cards"][task]["findings_left_out"] == ["fracture"]
    whole = content_of(judged)["figures"]["zero_shot"]["auc"]
    mean = (whole["nodule"] + whole["cardiomegaly"]) / 2
    assert content["figures"]["zero_shot"]["auc_mean"] == pytest.approx(mean)
    table = (judged / "evaluation" / "phantom-test-some-tables" / "tables.md").read_text()
    assert "zero shot: the mean leaves out fracture: one class alone in val or test" in table


def test_a_learning_rate_is_chosen_on_val(judged: Path, tmp_path: Path) -> None:
    figures = {}
    run = Path(shutil.copytree(judged, tmp_path / "copy"))
    for name, factors in (("one", [1.0]), ("slow", [1e-3]), ("both", [1e-3, 1.0])):
        protocol = fast_protocol(tmp_path / f"{name}.yaml", fine_tuned={"lr_factors": factors})
        figures[name] = judge(run, protocol, tasks=("fine_tuned",))["fine_tuned"]
    chosen = figures["both"]["lr_factor_at_100_by_seed"]["0"]
    same = figures["one" if chosen == 1.0 else "slow"]
    assert (
        figures["both"]["auc_at_100"] == same["auc_at_100"] != figures["slow" if chosen == 1.0 else "one"]["auc_at_100"]
    )
    assert (figures["one"]["images_seen_at_100"], figures["both"]["images_seen_at_100"]) == (48, 96)


def test_a_share_that_is_too_small_is_left_out_alone(judged: Path, tmp_path: Path) -> None:
    protocol = fast_protocol(tmp_path / "small.yaml", linear_probe={"ratios": ["1", "100"]})
    figures = judge(judged, protocol, tasks=("linear_probe",))["linear_probe"]
    assert figures["left_out_at_1"] == "1 training images (1 %) hold no finding with both classes"
    assert "auc_mean_at_100" in figures and "auc_mean_at_1" not in figures
