"""A sweep as its file and its folder tell it. (Jobs are pickled by module: they must not live in one that is run by -m.)"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from launch import scontrol
from launch.evaluation_plan import Cell, EvaluationPlan, plan_cells
from launch.sweep_config import SweepCell, SweepConfig, sweep_cells
from launch.sweep_table import RunResult, read_run_result, write_summary
from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.training.config import PretrainConfig


@dataclass(frozen=True)
class Sweep:
    """A sweep that was read and found to be right."""

    config: SweepConfig
    folder: Path
    cells: list[SweepCell]
    runs: dict[str, PretrainConfig]
    """Cell -> its whole configuration."""
    plan: EvaluationPlan | None

    @property
    def judgement(self) -> tuple[Cell, ...]:
        """Return the cells by which each run is judged."""
        return tuple(plan_cells(self.plan)) if self.plan else ()

    @property
    def jobs_file(self) -> Path:
        """Return where the numbers of the runs' jobs are kept."""
        return self.folder / "slurm" / "jobs.json"


@dataclass(frozen=True)
class SummaryJob:
    """Writes the sweep's table and plot once everything is over."""

    sweep: Sweep

    def __call__(self) -> str:
        """Write the summary; return where it lies."""
        return str(write_summary(self.sweep.folder, self.sweep.config.name, read_results(self.sweep, ask_slurm=False)))


def read_sweep(path: str) -> Sweep:
    """Read a sweep and the configuration of each of its cells. Raises ConfigError naming the cell that does not fit."""
    config = load_config(path, [], SweepConfig)
    base = load_config(config.base, [], PretrainConfig)
    folder = (Path(base.run.folder) / config.name).absolute()
    cells = sweep_cells(config)
    runs = {}
    for cell in cells:
        try:
            runs[cell.name] = load_config(config.base, cell.overrides(config, str(folder)), PretrainConfig)
        except ConfigError as error:
            raise ConfigError(f"{path}, cell {cell.name}: {error}") from error
    plan = load_config(config.evaluate, [], EvaluationPlan) if config.evaluate else None
    return Sweep(config, folder, cells, runs, plan)


def read_results(sweep: Sweep, *, ask_slurm: bool = True) -> list[RunResult]:
    """Return what became of every cell; Slurm is asked about those whose job may still run."""
    known = known_jobs(sweep) if ask_slurm else {}
    states = scontrol.states(list(known.values())) if known else {}
    alive = {name: states[job] for name, job in known.items() if scontrol.is_alive(states[job])}
    return [
        read_run_result(
            sweep.folder / cell.name, cell, steps=sweep.runs[cell.name].train.steps, alive=alive.get(cell.name),
            evaluations=sweep.judgement,
        )
        for cell in sweep.cells
    ]  # fmt: skip


def known_jobs(sweep: Sweep) -> dict[str, str]:
    """Return the last job of each cell."""
    return json.loads(sweep.jobs_file.read_text(encoding="utf-8")) if sweep.jobs_file.is_file() else {}
