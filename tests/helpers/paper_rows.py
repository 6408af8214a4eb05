"""What a judgement by a protocol must show of a trained model: `python -m tests.helpers.paper_rows evaluation/NAME.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msvl.evaluation.paper_tables import PAPER_TABLES

NO_MERIT = "empty_false_positives"
"""No merit of its own: who predicts nothing marks no empty image."""


def not_shown(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what the tables of a judgement with `--untrained` fail to show, in words; nothing when all of it holds.

    Every cell of the paper's tables is there, with an interval for the model and for its untrained twin; the model's figure is
    the larger one; with all labels a figure is not below that with 1 %.
    """
    faults = []
    for row, task, name in _cells():
        own = figures.get(task, {})
        value, twin = own.get(name), own.get(f"{name}_untrained")
        if value is None or twin is None:
            faults.append(f"{row}: {name} was not measured for both models")
            continue
        faults += [
            f"{row}: {interval} is missing"
            for interval in (f"{name}_interval", f"{name}_untrained_interval")
            if not own.get(interval)
        ]
        if value <= twin:
            faults.append(f"{row}: {name} is {value:.4f}, and {twin:.4f} of an untrained encoder")
        few = own.get(f"{name.removesuffix('_at_100')}_at_1")
        if name.endswith("_at_100") and few is not None and value < few:
            faults.append(f"{row}: {value:.4f} with all labels, and {few:.4f} with 1 % of them")
    return faults


def _cells() -> Iterator[tuple[str, str, str]]:
    """Yield row, task and figure of every cell that has a merit."""
    for table in PAPER_TABLES:
        for row in table.own:
            for name in row.figures:
                if not name.startswith(NO_MERIT):
                    yield f"{table.title}, {row.who}", row.task, name


if __name__ == "__main__":
    found = not_shown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["figures"])
    sys.stdout.write("\n".join(found or ["everything is shown"]) + "\n")
    sys.exit(bool(found))
