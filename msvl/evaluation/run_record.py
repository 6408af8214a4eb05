"""What a run folder holds that a figure needs to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.evaluation.figures import read_json
from msvl.monitoring.writers import read_metrics


@dataclass(frozen=True)
class RunRecord:
    """A run as it was recorded."""

    path: Path
    run: dict[str, Any]
    """run.json: versions, commit, facts, attempts; empty when absent."""
    config: str
    """config.yaml as text."""
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl in order of steps."""
    seconds: dict[str, float]
    """seconds.json: wall-clock seconds per phase that a driver such as `msvl quickstart` took; empty when absent."""
    evaluations: tuple[dict[str, Any], ...]
    """Contents of evaluation/*.json, the headline one first."""

    @property
    def name(self) -> str:
        """Return the run's name."""
        return str(self.run.get("name", self.path.name))

    def series(self, name: str) -> list[tuple[float, float]]:
        """Return (step, value) of one metric."""
        return [
            (float(line["step"]), float(line[name])) for line in self.metrics if isinstance(line.get(name), int | float)
        ]

    def series_names(self, prefix: str) -> list[str]:
        """Return the metrics that begin with `prefix`, in order of first mention."""
        return list(dict.fromkeys(name for line in self.metrics for name in line if name.startswith(prefix)))


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        DataError: The folder is missing or holds neither metrics nor evaluations.
    """
    if not path.is_dir():
        raise DataError(f"there is no run folder {path}: name one that `msvl train` wrote, such as runs/quickstart")
    metrics_file, run_file, config_file = path / "metrics.jsonl", path / "run.json", path / "config.yaml"
    seconds_file = path / "seconds.json"
    evaluations = [read_json(file, made_by="msvl evaluate") for file in sorted((path / "evaluation").glob("*.json"))]
    if not metrics_file.is_file() and not evaluations:
        raise DataError(
            f"{path} has neither metrics.jsonl nor evaluation/*.json: nothing to report, train or evaluate first"
        )
    run = read_json(run_file, made_by="msvl train") if run_file.is_file() else {}
    fingerprint = run.get("facts", {}).get("data_fingerprint")
    return RunRecord(
        path=path,
        run=run,
        config=config_file.read_text(encoding="utf-8") if config_file.is_file() else "",
        seconds=read_json(seconds_file, made_by="msvl quickstart") if seconds_file.is_file() else {},
        metrics=read_metrics(metrics_file) if metrics_file.is_file() else [],
        evaluations=tuple(
            sorted((item for item in evaluations if "figures" in item), key=lambda e: _order(e, fingerprint))
        ),
    )


def _order(evaluation: Mapping[str, Any], fingerprint: str | None) -> tuple[bool, bool, bool, int, str]:
    """Headline first: the run's own data, the test split, without a protocol, the most tasks."""
    data = evaluation["data"]
    own = data.get("fingerprint") == fingerprint
    tasks = -len(evaluation["figures"])
    return (not own, data.get("split") != "test", "protocol" in evaluation, tasks, str(evaluation["name"]))
