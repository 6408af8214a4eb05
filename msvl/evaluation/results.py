"""`results.json` of a run: the headline evaluation's figures on top, then what they took and on what they ran."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msvl.evaluation.figures import write_json
from msvl.evaluation.run_record import RunRecord, read_run
from msvl.evaluation.scales import scale_figures


def write_results(run: Path, *, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write results.json into a run folder and return its content.

    Args:
        run: Run folder.
        extra: Added at the top level; `seconds` is merged with what the folder knows.

    Raises:
        DataError: The folder is missing, empty, damaged or cannot be written.
    """
    results = assemble_results(read_run(run))
    for name, value in (extra or {}).items():
        results[name] = results[name] | value if isinstance(value, Mapping) and name in results else value
    write_json(run / "results.json", results)
    return results


def assemble_results(record: RunRecord) -> dict[str, Any]:
    """Return the content of results.json."""
    headline = record.evaluations[0] if record.evaluations else None
    results: dict[str, Any] = {"name": record.name}
    if headline is not None:
        results |= headline["figures"]
        results["judged"] = {"evaluation": headline["name"], "model": headline["model"], "data": headline["data"]}
    results["throughput"] = _throughput(record)
    results["seconds"] = _phases(record) | record.seconds
    results["losses"] = {
        name.removeprefix("loss/"): record.series(name)[-1][1] for name in record.series_names("loss/")
    }
    results["scales"] = scale_figures(record)
    results["facts"] = record.run.get("facts", {})
    results["versions"] = record.run.get("versions", {})
    results["git_commit"] = record.run.get("git_commit")
    results["other_evaluations"] = {item["name"]: item["figures"] for item in record.evaluations[1:]}
    return results


def _throughput(record: RunRecord) -> dict[str, float]:
    """Medians over the logged intervals: the first one, which warms up, and pauses do not count."""
    medians = {}
    for name in ("pairs_per_second", "waiting_share"):
        values = [value for _, value in record.series(f"throughput/{name}")]
        if values:
            medians[name] = round(statistics.median(values), 4)
    return medians


def _phases(record: RunRecord) -> dict[str, float]:
    """Seconds that the run's own files know: training over all attempts, and each evaluation."""
    ends: dict[int, float] = {}
    for line in record.metrics:
        if "seconds" in line:
            attempt = int(line.get("attempt", 1))
            ends[attempt] = max(ends.get(attempt, 0.0), float(line["seconds"]))
    phases = {"train": round(sum(ends.values()), 2)} if ends else {}
    for item in record.evaluations:
        phases[f"evaluate {item['name']}"] = round(sum(item.get("seconds", {}).values()), 2)
    return phases
