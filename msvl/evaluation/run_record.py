"""What a run folder holds that a figure needs to be believed, and the run's `results.json` made of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.evaluation.results import read_json, write_json
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
        metrics=read_metrics(metrics_file) if metrics_file.is_file() else [],
        evaluations=tuple(
            sorted((item for item in evaluations if "figures" in item), key=lambda e: _order(e, fingerprint))
        ),
    )


def _order(evaluation: Mapping[str, Any], fingerprint: str | None) -> tuple[bool, bool, int, str]:
    """Headline first: the run's own data, the test split, the most tasks."""
    data = evaluation["data"]
    own = data.get("fingerprint") == fingerprint
    return (not own, data.get("split") != "test", -len(evaluation["figures"]), str(evaluation["name"]))


def assemble_results(record: RunRecord, *, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return results.json: the headline evaluation's figures on top, then what it took and on what it ran.

    Args:
        record: The run.
        seconds: Wall-clock seconds per phase; what the record knows itself is added.
    """
    headline = record.evaluations[0] if record.evaluations else None
    results: dict[str, Any] = {"name": record.name}
    if headline is not None:
        results |= headline["figures"]
        results["judged"] = {"evaluation": headline["name"], "model": headline["model"], "data": headline["data"]}
    pace = [value for _, value in record.series("throughput/pairs_per_second")]
    if pace:
        waiting = [value for _, value in record.series("throughput/waiting_share")]
        results["throughput"] = {"pairs_per_second": round(statistics.median(pace), 2)}
        if waiting:
            results["throughput"]["waiting_share"] = round(statistics.median(waiting), 4)
    results["seconds"] = _phases(record, headline) | {name: round(float(value), 2) for name, value in seconds.items()}
    results["losses"] = {
        name.removeprefix("loss/"): record.series(name)[-1][1] for name in record.series_names("loss/")
    }
    results["facts"] = record.run.get("facts", {})
    results["versions"] = record.run.get("versions", {})
    results["git_commit"] = record.run.get("git_commit")
    results["other_evaluations"] = {item["name"]: item["figures"] for item in record.evaluations[1:]}
    return results


def _phases(record: RunRecord, headline: Mapping[str, Any] | None) -> dict[str, float]:
    phases = {}
    ends: dict[int, float] = {}
    for line in record.metrics:
        if "seconds" in line:
            ends[line.get("attempt", 1)] = max(ends.get(line.get("attempt", 1), 0.0), float(line["seconds"]))
    if ends:
        phases["train"] = round(sum(ends.values()), 2)
    if headline is not None:
        phases["evaluate"] = round(sum(headline.get("seconds", {}).values()), 2)
    return phases


def write_results(record: RunRecord, *, seconds: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Write results.json into the run folder and return it.

    Phases that an earlier results.json measured and nobody measured again are kept.
    """
    path = record.path / "results.json"
    earlier: dict[str, Any] = {}
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8")).get("seconds", {})
        except (ValueError, AttributeError):
            earlier = {}
    results = assemble_results(record, seconds=seconds or {})
    results["seconds"] = earlier | results["seconds"]
    write_json(path, results)
    return results
