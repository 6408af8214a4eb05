"""`msvl runs list` and `msvl runs checkpoints`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msvl.config.exit_codes import ANSWER_IS_NO


def add_parsers(groups: Any) -> None:
    """Add `msvl runs`."""
    parser = groups.add_parser(
        "runs",
        help="list runs and their checkpoints",
        description="List runs and their checkpoints.",
        epilog="Example: msvl runs list",
    )
    commands = parser.add_subparsers(dest="runs_command", required=True, metavar="COMMAND")
    listing = commands.add_parser(
        "list",
        help="all runs of a folder: step, best metric, state, attempts",
        description="List all runs of a folder: step, best metric, state, attempts.",
        epilog="Example: msvl runs list runs --json",
    )
    listing.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)
    checkpoints = commands.add_parser(
        "checkpoints",
        help="the checkpoints of a run: step, size, soundness",
        description="List the checkpoints of a run; every file's bytes are compared with the hash of what was saved. "
        "Exit code 1 when a finished one is damaged.",
        epilog="Example: msvl runs checkpoints runs/quickstart",
    )
    checkpoints.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")
    checkpoints.add_argument("--sizes-only", action="store_true", help="compare sizes and read no content")
    checkpoints.add_argument("--json", action="store_true", help="print JSON")
    checkpoints.set_defaults(run=_checkpoints)


def _list(arguments: argparse.Namespace) -> int:
    from msvl.training.runs import list_runs

    runs = list_runs(arguments.folder)
    if arguments.json:
        _print_json([asdict(run) for run in runs])
        return 0
    rows = [("run", "step", "best", "state", "attempts")]
    for run in runs:
        best = f"{run.best:.4f} {run.metric} (step {run.best_step:,})" if run.best is not None else "-"
        rows.append((run.name, f"{run.step:,} of {run.steps:,}", best, run.state, str(run.attempts)))
    _print_table(rows)
    return 0


def _checkpoints(arguments: argparse.Namespace) -> int:
    from msvl.training.runs import list_checkpoints

    found = list_checkpoints(arguments.run_folder, content=not arguments.sizes_only)
    if arguments.json:
        _print_json([asdict(item) for item in found])
    else:
        rows = [("step", "MB", "sound", "")]
        rows += [
            (f"{item.step:,}", f"{item.nbytes / 1e6:,.1f}", "yes" if item.sound else "no", item.note) for item in found
        ]
        _print_table(rows)
    return ANSWER_IS_NO if any(item.damaged for item in found) else 0


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
