"""Cells of a judgement and their table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from launch.evaluation_plan import EvaluationPlan, plan_cells
from launch.evaluation_table import (
    failure_file,
    figures_table,
    read_cells,
    remove_stale,
    result_file,
    shown_figures,
    write_table,
)
from msvl.config.errors import ConfigError
from msvl.config.load import check_config, load_config
from msvl.data.sources import SOURCES
from msvl.evaluation.cli import add_parsers
from msvl.evaluation.config import TaskName
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.protocol_command import TASKS
from tests.helpers.runs import ROOT


def plan(**cells: object) -> EvaluationPlan:
    return check_config({"cells": [cells]}, EvaluationPlan, where="plan")


def test_all_is_every_task_that_msvl_offers() -> None:
    assert [cell.task for cell in plan_cells(plan(tasks="all"))] == list(get_args(TaskName))


def test_a_grid_is_every_combination_once() -> None:
    cells = plan_cells(
        plan(tasks=["linear_probe"], data=["own", "sets/b"], seeds=[0, 1], options={"probe-samples": [20, 200]})
    )
    assert len(cells) == len({cell.name for cell in cells}) == 8
    twice = check_config({"cells": [{"tasks": ["retrieval"]}, {"tasks": ["retrieval"]}]}, EvaluationPlan, where="plan")
    assert len(plan_cells(twice)) == 1


def test_sets_whose_results_would_overwrite_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="a/test and b/test have the same last name"):
        plan_cells(plan(tasks=["retrieval"], data=["a/test", "b/test"]))


def test_what_the_cell_sets_itself_is_no_option() -> None:
    with pytest.raises(ConfigError, match="options: seed is set by the cell itself"):
        plan(options={"seed": [1]})


def test_all_of_a_protocol_is_every_task_that_it_has_cards_for() -> None:
    cells = plan_cells(plan(protocol="clean"))
    assert [cell.task for cell in cells] == list(TASKS)
    assert {cell.setting for cell in cells} == {"protocol=clean"}
    assert all(cell.words("runs/a")[-2:] == ("--protocol", "clean") for cell in cells)
    assert len({cell.name for cell in [*cells, *plan_cells(plan(tasks="all"))]}) == len(TASKS) + len(
        get_args(TaskName)
    ), "quick figures and those of a protocol lie in files of their own"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"tasks": ["zero_shots"]}, "tasks: zero_shots is none of zero_shot, retrieval"),
        ({"tasks": ["fine_tuned"]}, "tasks: fine_tuned is none of zero_shot, retrieval"),
        ({"tasks": ["pixel_baseline"], "protocol": "clean"}, "tasks: pixel_baseline is none of zero_shot"),
        ({"protocol": "cleen"}, "there is no protocol 'cleen'.*Did you mean clean"),
    ],
)
def test_tasks_that_msvl_evaluate_would_refuse_are_refused_before_a_job_queues(cells: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**cells)


def test_the_papers_plan_has_a_card_for_every_cell() -> None:
    cells = plan_cells(load_config(str(ROOT / "configs" / "evaluate" / "paper.yaml"), [], EvaluationPlan))
    assert {cell.task for cell in cells} == set(TASKS)
    cards = {(card.task, card.data) for card in read_protocol("clean").cards}
    for cell in cells:
        data = cell.data.removeprefix("shards/")
        assert (cell.task, data) in cards or (cell.task, "any") in cards
        assert data == "own" or data in SOURCES


def test_of_a_protocol_the_headline_is_shown_at_every_share_of_the_labels() -> None:
    figures = {"auc_mean": 0.9, "auc_mean_at_1": 0.7, "auc_mean_at_100": 0.9, "auc_mean_at_1_spread": 0.1, "f1_mean_at_1": 0.3,
               "seeds": 3, "auc": {"a": 1.0}}  # fmt: skip
    content = {"figures": {"fine_tuned": figures}, "cards": {"fine_tuned": {"headline": "auc_mean"}}}
    assert shown_figures(content, "fine_tuned") == {"auc_mean_at_1": 0.7, "auc_mean_at_100": 0.9}
    content = {"figures": {"grounding": {"miou": 0.2, "iou_0.1": 0.3}}, "cards": {"grounding": {"headline": "miou"}}}
    assert shown_figures(content, "grounding") == {"miou": 0.2}
    assert shown_figures({"figures": {"new_task": {"score": 1, "note": "x"}}}, "new_task") == {"score": 1.0}


def test_the_shipped_plan_is_understood_by_msvl_evaluate() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())
    for path in (ROOT / "configs" / "evaluate").glob("*.yaml"):
        for cell in plan_cells(load_config(str(path), [], EvaluationPlan)):
            arguments = parser.parse_args(cell.words("runs/a"))
            assert arguments.tasks == cell.task
            assert arguments.name == cell.name


def judged(run: Path, cell, value: float, *, model: str) -> None:
    content = {"model": {"path": model}, "figures": {cell.task: {"auc_mean": value, "auc": {"a": 1.0}}}}
    result_file(run, cell).parent.mkdir(parents=True, exist_ok=True)
    result_file(run, cell).write_text(json.dumps(content))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = tmp_path / "run" / "checkpoints" / "step-00000004" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").touch()
    (model.parent / "COMPLETE").touch()
    return tmp_path / "run"


def test_seeds_are_averaged_and_failed_cells_are_shown(run: Path) -> None:
    cells = plan_cells(plan(tasks=["zero_shot"], seeds=[0, 1, 2, 3]))
    model = str((run / "checkpoints" / "step-00000004" / "model").resolve())
    judged(run, cells[0], 0.5, model=model)
    judged(run, cells[1], 0.7, model=model)
    judged(run, cells[3], 0.9, model="an older checkpoint")
    failure_file(run, cells[2]).parent.mkdir(parents=True)
    failure_file(run, cells[2]).write_text("exit code 2: msvl: no labels\n")
    results = read_cells(run, cells)
    assert [result.state for result in results] == ["done", "done", "failed", "waiting"]
    assert figures_table(results).rows == [
        ("zero_shot", "own", "test", "-", "auc_mean", "0.600", "0.141", "2"),
        ("zero_shot", "own", "test", "-", "seed 2", "FAILED", "-", "0"),
        ("zero_shot", "own", "test", "-", "seed 3", "NOT JUDGED", "-", "0"),
    ]
    page = write_table(run, results).read_text()
    assert "2 of 4 cells judged" in page
    assert "exit code 2: msvl: no labels" in page
    remove_stale(run, results)
    assert [result_file(run, cell).is_file() for cell in cells] == [True, True, False, False]
