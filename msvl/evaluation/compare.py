"""Two models on the same samples: the difference of every figure with its interval, patients drawn for both at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.evaluation.answers import Columns, figure_names, figure_statistic, parts_of, read_columns
from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.figures import read_json
from msvl.evaluation.operating_point import plain


def compare(first: Path, second: Path, *, resamples: int, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare two judgements by the same cards on the same data.

    Args:
        first: `evaluation/NAME.json` of one model.
        second: Of the other.
        resamples: Bootstrap draws over patients.
        seed: Of the draws.

    Returns:
        task -> figure -> {first, second, difference (second - first), interval}.

    Raises:
        DataError: A file is missing, or the cards, data or samples differ.
    """
    contents = [read_json(path, made_by="msvl evaluate MODEL --protocol NAME") for path in (first, second)]
    _check_same(contents, (first, second))
    columns = [read_columns(path.with_name(f"{path.stem}-samples.npz")) for path in (first, second)]
    found = {}
    for task in columns[0]:
        if task in columns[1]:
            found[task] = compare_columns(columns[0][task], columns[1][task], task, resamples=resamples, seed=seed)
    if not any(found.values()):
        raise DataError(f"{first} and {second} have no figure in common: judge both by the same tasks")
    return found


def compare_columns(
    first: Columns, second: Columns, task: str, *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Compare one task's figures. Raises DataError when they are about other samples."""
    found = {}
    for figure in figure_names(first):
        names = parts_of(first, figure)
        if names != parts_of(second, figure):
            continue
        for name in names:
            if first[name].keys != second[name].keys:
                raise DataError(f"{task}: {name} was measured on other samples in the two files: judge both with the same --limit")  # fmt: skip
        statistics = figure_statistic(first, figure), figure_statistic(second, figure)
        patients = first[names[0]].patients
        bootstrap = Bootstrap(patients, resamples=resamples, seed=seed)
        values = [plain(statistic, len(patients)) for statistic in statistics]
        interval = bootstrap.interval(lambda weights, both=statistics: both[1](weights) - both[0](weights))  # type: ignore[misc]
        found[figure] = {
            "first": values[0],
            "second": values[1],
            "difference": values[1] - values[0],
            "interval": list(interval) if isinstance(interval, tuple) else None,
        }
    return found


def told_apart(item: Mapping[str, Any]) -> bool:
    """Return whether the interval of the difference leaves out 0."""
    bounds = item["interval"]
    return bounds is not None and (bounds[0] > 0 or bounds[1] < 0)


def _check_same(contents: list[dict[str, Any]], paths: tuple[Path, Path]) -> None:
    for key in ("cards", "data"):
        if key not in contents[0] or key not in contents[1]:
            raise DataError(f"{paths[0]} and {paths[1]}: only judgements by a protocol can be compared, use --protocol")
    if contents[0]["data"]["fingerprint"] != contents[1]["data"]["fingerprint"]:
        raise DataError(f"{paths[0]} and {paths[1]} were judged on different data: judge both on the same packed set")
    for task in set(contents[0]["cards"]) & set(contents[1]["cards"]):
        digests = [content["cards"][task]["digest"] for content in contents]
        if digests[0] != digests[1]:
            raise DataError(
                f"{task} was judged by different cards ({digests[0]}, {digests[1]}): see `msvl protocol diff`"
            )
