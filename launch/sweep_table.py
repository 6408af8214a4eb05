"""What became of the runs of a sweep: a table and a plot of their figures, read from the run folders alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.evaluation_plan import Cell
from launch.evaluation_table import CellResult, read_cells
from launch.restarts import Restarts, newest_step
from launch.sweep_config import SweepCell
from msvl.evaluation.tables import Table, as_markdown, number
from msvl.monitoring.writers import read_metrics


@dataclass(frozen=True)
class RunResult:
    """One run of a sweep."""

    cell: SweepCell
    state: str
    """done, running, waiting, failed or not started."""
    step: int
    figures: dict[str, float]
    """Last losses, last judgement during training, and what the evaluations found."""
    reason: str = ""


def read_run_result(
    folder: Path, cell: SweepCell, *, steps: int, alive: str | None, evaluations: Sequence[Cell]
) -> RunResult:
    """Return what became of a cell's run.

    Args:
        folder: Run folder.
        cell: The cell.
        steps: Steps of the whole run.
        alive: State of its job in Slurm while it may still run, else None.
        evaluations: Cells of its judgement.
    """
    step = newest_step(folder)
    starts = Restarts(folder / "slurm" / "starts.json").starts
    if step >= steps:
        state, reason = "done", ""
    elif alive:
        state, reason = ("running" if alive == "RUNNING" else "waiting"), ""
    elif starts:
        state, reason = "failed", starts[-1].reason
    else:
        state, reason = "not started", ""
    return RunResult(cell, state, step, last_figures(folder) | evaluated(read_cells(folder, evaluations)), reason)


def last_figures(folder: Path) -> dict[str, float]:
    """Return the last value of every loss and of every figure of the judgement during training."""
    metrics = folder / "metrics.jsonl"
    found: dict[str, float] = {}
    for record in read_metrics(metrics) if metrics.is_file() else []:
        found |= {
            name: float(value)
            for name, value in record.items()
            if name.startswith(("loss/", "validation/")) and isinstance(value, int | float) and not name.endswith("_n")
        }
    return found


def evaluated(results: Sequence[CellResult]) -> dict[str, float]:
    """Return the headline figures of a judgement as {task.figure (setting): value}; failed cells leave theirs out."""
    found: dict[str, float] = {}
    for result in results:
        cell = result.cell
        setting = [] if cell.setting == "-" else [cell.setting]
        place = ", ".join([cell.data, *setting, f"seed {cell.seed}"])
        found |= {f"{cell.task}.{name} ({place})": value for name, value in result.figures.items()}
    return found


def sweep_table(results: Sequence[RunResult], figures: Sequence[str]) -> Table:
    """Return one row per run: what differs, state, step, figures."""
    keys = list(dict.fromkeys(key for result in results for key in result.cell.values))
    rows = []
    for result in results:
        told = result.state.upper() if result.state == "failed" else result.state
        values = [str(result.cell.values.get(key, "-")) for key in keys]
        rows.append((
            result.cell.name, *values, told, f"{result.step:,}", *(number(result.figures.get(name)) for name in figures),
        ))  # fmt: skip
    return Table(("cell", *keys, "state", "step", *figures), rows)


def shown_figures(results: Sequence[RunResult]) -> list[str]:
    """Return the figures of the table: what the evaluations found, else the total loss and the judgement in training."""
    names = list(dict.fromkeys(name for result in results for name in result.figures))
    judged = [name for name in names if not name.startswith(("loss/", "validation/"))]
    total = [name for name in names if name == "loss/total"]
    return total + (judged or [name for name in names if name.startswith("validation/")])


def write_summary(folder: Path, title: str, results: Sequence[RunResult]) -> Path:
    """Write summary.md, .csv, .json and .png into the sweep's folder; return the first."""
    figures = shown_figures(results)
    table = sweep_table(results, figures)
    target = folder / "summary.md"
    failed = [f"- {result.cell.name}: {result.reason}" for result in results if result.state == "failed"]
    done = sum(result.state == "done" for result in results)
    head = f"# Sweep {title}: {done} of {len(results)} runs finished\n\n"
    tail = "\nFailed runs (`python -m launch.sweep start` goes on with them, and only with them):\n\n" if failed else ""
    target.write_text(head + as_markdown(table) + tail + "\n".join(failed) + "\n", encoding="utf-8")
    with open(folder / "summary.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([table.columns, *table.rows])
    content: list[dict[str, Any]] = [
        {"cell": r.cell.name, "values": r.cell.values, "state": r.state, "step": r.step, "figures": r.figures}
        for r in results
    ]
    (folder / "summary.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    draw(folder / "summary.png", results, figures)
    return target


def draw(path: Path, results: Sequence[RunResult], figures: Sequence[str]) -> None:
    """Draw one panel of bars per figure, a bar per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second, and only where a plot is wanted
    from matplotlib.figure import Figure

    shown = list(figures)[:8] or ["loss/total"]
    figure = Figure(figsize=(7, 0.5 + len(shown) * (0.6 + 0.25 * len(results))), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for panel, name in zip(panels, shown, strict=True):
        having = [result for result in results if name in result.figures]
        panel.barh(
            [result.cell.name for result in having], [result.figures[name] for result in having], color="#4878a8"
        )
        panel.invert_yaxis()
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)
