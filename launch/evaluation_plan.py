"""configs/evaluate/*.yaml: which cells a judgement has (task x data set x seed x any option of `msvl evaluate`)."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field, PositiveInt, model_validator

from msvl.config.base import Config
from msvl.config.errors import ConfigError
from msvl.evaluation.config import TaskName
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.protocol_command import TASKS

OWN_DATA = "own"
"""Stands for the set that the run was trained on."""


def offered_tasks(protocol: str | None) -> tuple[str, ...]:
    """Return the tasks that `msvl evaluate` offers, with a protocol those that it has cards for. Raises ConfigError."""
    if protocol is None:
        return get_args(TaskName)
    cards = {card.task for card in read_protocol(protocol).cards}
    return tuple(task for task in TASKS if task in cards)


class CellGrid(Config):
    """A grid: every task with every data set, seed and combination of options is one cell."""

    protocol: str | None = None
    """Judge by its cards (`msvl evaluate --protocol`), which name shares of the labels and seeds of trainings; null judges quickly."""
    tasks: tuple[str, ...] | Literal["all"] = "all"
    """Tasks; `all` is every one that `msvl evaluate` offers, by the protocol where there is one."""
    data: tuple[str, ...] = (OWN_DATA,)
    """Packed sets; `own` is the one that the run was trained on."""
    split: str = "test"
    """Split to judge."""
    seeds: tuple[int, ...] = (0,)
    """Of bootstrap, probes and draws."""
    options: dict[str, tuple[str | int | float, ...]] = {}
    """Further options of `msvl evaluate` by their names without dashes, each with its values: {probe-samples: [20, 200]}."""

    @model_validator(mode="after")
    def _check(self) -> CellGrid:
        taken = {"tasks", "data", "split", "seed", "name", "json", "protocol"} & set(self.options)
        if taken:
            raise ValueError(f"options: {', '.join(sorted(taken))} is set by the cell itself")
        offered = offered_tasks(self.protocol)
        if unknown := [task for task in self.task_names if task not in offered]:
            raise ValueError(f"tasks: {', '.join(unknown)} is none of {', '.join(offered)}")
        return self

    @property
    def task_names(self) -> tuple[str, ...]:
        """Every task by its name."""
        return offered_tasks(self.protocol) if self.tasks == "all" else self.tasks

    @property
    def settings(self) -> list[tuple[tuple[str, str], ...]]:
        """Every combination of options as (name, value) pairs, the protocol among them."""
        values = {"protocol": (self.protocol,)} if self.protocol else {}
        ways = [[(name, str(value)) for value in given] for name, given in (values | self.options).items()]
        return list(itertools.product(*ways))


class EvaluationPlan(Config):
    """All cells of a judgement."""

    cells: tuple[CellGrid, ...] = Field(min_length=1)
    """Grids; a cell that two of them name is judged once."""
    minutes: PositiveInt = 120
    """Time limit of a cell."""
    parallel: PositiveInt = 16
    """Cells that run at once."""


@dataclass(frozen=True)
class Cell:
    """One judgement."""

    task: str
    data: str
    split: str
    seed: int
    options: tuple[tuple[str, str], ...]

    @property
    def setting(self) -> str:
        """Return the options as words, '-' without any."""
        return " ".join(f"{name}={value}" for name, value in self.options) or "-"

    @property
    def name(self) -> str:
        """Return the name of its result file."""
        data = self.data.rstrip("/").rpartition("/")[2]
        parts = [
            "cell",
            self.task,
            data,
            self.split,
            *(f"{name}-{value}" for name, value in self.options),
            f"seed-{self.seed}",
        ]
        return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))

    def words(self, run: str) -> tuple[str, ...]:
        """Return the arguments of `msvl` that judge it."""
        words = [
            "evaluate",
            run,
            "--tasks",
            self.task,
            "--split",
            self.split,
            "--seed",
            str(self.seed),
            "--name",
            self.name,
        ]
        if self.data != OWN_DATA:
            words += ["--data", self.data]
        for name, value in self.options:
            words += [f"--{name}", value]
        return tuple(words)


def plan_cells(plan: EvaluationPlan) -> list[Cell]:
    """Return the cells of a plan in its order, each once. Raises ConfigError when two would share a result file."""
    cells: dict[str, Cell] = {}
    for grid in plan.cells:
        for task, data, options, seed in itertools.product(grid.task_names, grid.data, grid.settings, grid.seeds):
            cell = Cell(task, data, grid.split, seed, options)
            if cells.setdefault(cell.name, cell) != cell:
                raise ConfigError(
                    f"data sets {cells[cell.name].data} and {data} have the same last name, by which results are told apart: "
                    "link one of them under another name"
                )
    return list(cells.values())
