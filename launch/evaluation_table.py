"""What became of the cells of a judgement, and the table of their figures. Read from the run folder alone."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from launch.evaluation_plan import Cell
from msvl.config.errors import CheckpointError
from msvl.evaluation.locate import locate_model
from msvl.evaluation.tables import HEADLINES, Table, as_markdown, number

State = Literal["done", "failed", "waiting"]


@dataclass(frozen=True)
class CellResult:
    """A cell and what became of it."""

    cell: Cell
    state: State
    reason: str = ""
    """Why it failed."""
    figures: dict[str, float] = field(default_factory=dict)
    """Of its task, those that a table shows."""


def result_file(run: Path, cell: Cell) -> Path:
    """Return where `msvl evaluate` writes a cell's figures."""
    return run / "evaluation" / f"{cell.name}.json"


def failure_file(run: Path, cell: Cell) -> Path:
    """Return where a cell's job tells why it failed."""
    return run / "slurm" / "cells" / f"{cell.name}.failed"


def log_file(run: Path, cell: Cell) -> Path:
    """Return where a cell's command speaks."""
    return run / "slurm" / "cells" / f"{cell.name}.txt"


def read_cells(run: Path, cells: Sequence[Cell]) -> list[CellResult]:
    """Return what became of each cell; figures of another checkpoint than the run's present one do not count."""
    try:
        model = str(locate_model(run).model)
    except CheckpointError:
        model = ""
    return [_read(run, cell, model) for cell in cells]


def _read(run: Path, cell: Cell, model: str) -> CellResult:
    failure = failure_file(run, cell)
    try:
        content = json.loads(result_file(run, cell).read_text(encoding="utf-8"))
        if content["model"]["path"] == model and not failure.is_file():
            return CellResult(cell, "done", figures=shown_figures(content, cell.task))
    except (OSError, ValueError, KeyError):
        pass
    if failure.is_file():
        return CellResult(cell, "failed", reason=failure.read_text(encoding="utf-8").strip())
    return CellResult(cell, "waiting")


def remove_stale(run: Path, results: Sequence[CellResult]) -> None:
    """Remove the figures of cells that are to be judged again, so that a job does not take them for its own."""
    for result in results:
        if result.state != "done":
            result_file(run, result.cell).unlink(missing_ok=True)


def figures_table(results: Sequence[CellResult]) -> Table:
    """Return one row per figure, with mean and standard deviation over seeds; a cell without figures is a row that says so."""
    groups: dict[tuple[str, str, str, str], list[CellResult]] = {}
    for result in results:
        cell = result.cell
        groups.setdefault((cell.task, cell.data, cell.split, cell.setting), []).append(result)
    rows = []
    for key, members in groups.items():
        done = [member for member in members if member.state == "done"]
        for name in dict.fromkeys(name for member in done for name in member.figures):
            values = [member.figures[name] for member in done if name in member.figures]
            spread = f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"
            rows.append((*key, name, number(statistics.mean(values)), spread, str(len(values))))
        for member in members:
            if member.state != "done":
                told = "FAILED" if member.state == "failed" else "NOT JUDGED"
                rows.append((*key, f"seed {member.cell.seed}", told, "-", "0"))
    return Table(("task", "data", "split", "options", "figure", "mean", "sd", "seeds"), rows)


def shown_figures(content: dict[str, Any], task: str) -> dict[str, float]:
    """Return what a table shows of a judgement: the headline figures of a task, at every share of the labels; else all numbers."""
    figures = content["figures"].get(task, {})
    numbers = {name: float(value) for name, value in figures.items() if type(value) in (int, float)}
    headlines = {item.name for item in HEADLINES if item.task == task}
    if card := content.get("cards", {}).get(task):
        headlines.add(card["headline"])
    plain = {name: value for name, value in numbers.items() if name in headlines}
    shares = {
        name: value
        for name, value in numbers.items()
        if name.partition("_at_")[0] in headlines and "_at_" in name and not name.endswith("_spread")
    }
    return shares or plain or numbers  # the plain name is that of the largest share


def write_table(run: Path, results: Sequence[CellResult]) -> Path:
    """Write evaluation/table.md and table.csv, failed cells with their reasons included; return the first."""
    table = figures_table(results)
    folder = run / "evaluation"
    folder.mkdir(exist_ok=True)
    counts = {state: sum(result.state == state for result in results) for state in ("done", "failed", "waiting")}
    lines = [f"# {run.name}: {counts['done']} of {len(results)} cells judged\n", as_markdown(table)]
    failed = [result for result in results if result.state == "failed"]
    if failed:
        lines.append("Failed cells (`python -m launch.evaluate RUN` judges them again, and only them):\n")
        lines += [f"- {result.cell.name}: {result.reason}" for result in failed]
    target = folder / "table.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([table.columns, *table.rows])
    return target


@dataclass(frozen=True)
class TableJob:
    """Writes the table once all cells are over, however they ended."""

    run: str
    cells: tuple[Cell, ...]

    def __call__(self) -> str:
        """Write the table; return where it lies."""
        return str(write_table(Path(self.run), read_cells(Path(self.run), self.cells)))
