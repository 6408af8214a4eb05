"""Cells of a sweep, and what the shipped ones are."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from launch.restarts import Restarts
from launch.sweep_config import SweepCell, SweepConfig, sweep_cells
from launch.sweep_state import read_sweep
from launch.sweep_table import RunResult, read_run_result, write_summary
from msvl.config.errors import ConfigError
from msvl.config.load import check_config
from msvl.training.finished import MARKER, step_folder
from tests.helpers.runs import ROOT


def sweep(**parts: object) -> SweepConfig:
    return check_config({"name": "s", "base": "b.yaml", **parts}, SweepConfig, where="sweep")


def test_the_papers_ablation_has_seven_rows_and_global_is_always_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ablation = read_sweep("configs/sweep/ablation.yaml")
    rows = set()
    for config in ablation.runs.values():
        weights = config.objectives
        assert weights.global_.weight > 0
        rows.add(tuple(scale.weight > 0 for scale in (weights.local, weights.instance, weights.modality)))
    assert rows == set(itertools.product((True, False), repeat=3)) - {(False, False, False)}
    assert len(ablation.cells) == 7


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_cell_of_the_shipped_sweeps_is_a_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = read_sweep(str(path))
    assert len({config.model_dump_json() for config in found.runs.values()}) == len(found.cells)
    assert all(config.run.folder.endswith(f"runs/{found.config.name}") for config in found.runs.values())


def test_a_grid_is_every_combination() -> None:
    cells = sweep_cells(sweep(grid={"train.seed": [0, 1], "optimizer.lr": [1e-4, 1e-3, 1e-2]}))
    assert [cell.name for cell in cells] == [f"cell-{number}" for number in range(6)]
    assert len({tuple(cell.values.items()) for cell in cells}) == 6


def test_random_cells_are_the_seeds_and_within_bounds() -> None:
    draw = {"optimizer.lr": {"log_uniform": [1e-5, 1e-3]}, "a.b": {"uniform": [2, 3]}, "c": {"choice": ["x", None]}}
    cells = sweep_cells(sweep(random={"count": 50, "seed": 3, "draw": draw}))
    assert cells == sweep_cells(sweep(random={"count": 50, "seed": 3, "draw": draw}))
    assert cells != sweep_cells(sweep(random={"count": 50, "seed": 4, "draw": draw}))
    assert all(1e-5 <= cell.values["optimizer.lr"] <= 1e-3 and 2 <= cell.values["a.b"] <= 3 for cell in cells)
    below = sum(cell.values["optimizer.lr"] < 1e-4 for cell in cells)
    assert 10 < below < 40, "even in the logarithm"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "give exactly one of list, grid and random"),
        ({"grid": {"a": [1]}, "list": {"x": {"a": 1}}}, "give exactly one of list, grid and random"),
        ({"random": {"count": 2, "draw": {"a": {"log_uniform": [0, 1]}}}}, "log_uniform needs positive bounds"),
        ({"random": {"count": 2, "draw": {"a": {"uniform": [1, 1]}}}}, "expected lower < upper"),
        ({"random": {"count": 2, "draw": {"a": {}}}}, "exactly one of choice, uniform and log_uniform"),
    ],
)
def test_mistakes_are_named(parts: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(**parts)


def test_a_cell_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("run: {name: a}\ndata: {path: x}\ntrain: {steps: 1, global_batch: 2}\n")
    path = tmp_path / "s.yaml"
    path.write_text(f"name: s\nbase: {tmp_path}/b.yaml\nlist:\n  good: {{train.seed: 1}}\n  bad: {{train.sed: 1}}\n")
    with pytest.raises(ConfigError, match=r"s.yaml, cell bad: .*unknown key 'train.sed': did you mean 'train.seed'"):
        read_sweep(str(path))


def test_the_summary_shows_failed_runs(tmp_path: Path) -> None:
    cells = sweep_cells(sweep(grid={"train.seed": [0, 1]}))
    results = [
        RunResult(cells[0], "done", 8, {"loss/total": 1.5, "zero_shot.auc_mean (own, seed 0)": 0.8}),
        RunResult(cells[1], "failed", 4, {"loss/total": 2.0}, "training died"),
    ]
    page = write_summary(tmp_path, "s", results).read_text()
    assert "1 of 2 runs finished" in page
    assert "| cell-1 | 1 | FAILED | 4 | 2.000 | - |" in page
    assert "cell-1: training died" in page
    assert (tmp_path / "summary.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("step", "starts", "alive", "state"),
    [
        (8, 1, None, "done"),
        (4, 1, "RUNNING", "running"),
        (4, 1, "PENDING", "waiting"),
        (0, 0, "PENDING", "waiting"),
        (4, 1, None, "failed"),
        (0, 0, None, "not started"),
    ],
)
def test_the_state_of_a_run(tmp_path: Path, step: int, starts: int, alive: str | None, state: str) -> None:
    restarts = Restarts(tmp_path / "slurm" / "starts.json")
    for number in range(starts):
        restarts.begin("7", number, ["n1"], 0)
        restarts.end("training died", asked=False)
    if step:
        folder = step_folder(tmp_path / "checkpoints", step)
        folder.mkdir(parents=True)
        (folder / MARKER).write_text("{}")
    result = read_run_result(tmp_path, SweepCell("a", {}), steps=8, alive=alive, evaluations=())
    assert (result.state, result.step) == (state, step)
    assert result.reason == ("training died" if state == "failed" else "")
