"""Does a classifier work equally well for everybody? AUC per sex, age, view and race, where the data say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msvl.evaluation.answers import Columns, figure_names, figure_statistic, parts_of
from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.operating_point import plain

AGES = (40, 60, 80)
"""Years at which one group ends and the next begins."""
FEWEST = 10
"""Smaller groups are not shown: their figures say nothing, and may point at a person."""
UNSAID = ("", "unknown", "none", "nan")


def groups_of(views: Sequence[str], extras: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.bool_]]:
    """Return 'sex: F', 'age: 40 to 59', 'view: PA', 'race: ...' -> which of the N images belong to it.

    Only where there are at least two groups of FEWEST images.
    """
    said: dict[str, list[str]] = {
        "sex": [str(extra.get("sex", "")) for extra in extras],
        "age": [_age_band(extra.get("age")) for extra in extras],
        "view": list(views),
        "race": [str(extra.get("race", "")) for extra in extras],
    }
    groups: dict[str, NDArray[np.bool_]] = {}
    for kind, values in said.items():
        column = np.asarray(values, dtype=object)
        own = {f"{kind}: {value}": column == value for value in sorted(set(values)) if value.lower() not in UNSAID}
        large = {name: kept for name, kept in own.items() if kept.sum() >= FEWEST}
        if len(large) > 1:
            groups |= large
    return groups


def _age_band(age: Any) -> str:
    try:
        years = float(age)
    except (TypeError, ValueError):
        return ""
    if not 0 <= years <= 120:  # NIH has ages of 400 years
        return ""
    ends = [0, *AGES, 120]
    place = sum(years >= end for end in AGES)
    return f"{ends[place]} to {ends[place + 1] - 1}" if place < len(AGES) else f"{AGES[-1]} and older"


def subgroup_figures(
    columns: Columns, groups: Mapping[str, NDArray[np.bool_]], keys: Sequence[str], *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return group -> {figure: value, figure_interval, images, patients} of every AUC among a classifier's columns.

    Args:
        columns: Of one task, over the judged images.
        groups: From `groups_of`.
        keys: [N] sample keys, to be sure that the columns are about these images.
        resamples: Bootstrap draws over the group's patients.
        seed: Of the draws.
    """
    found: dict[str, dict[str, Any]] = {}
    for figure in figure_names(columns):
        parts = {name: columns[name] for name in parts_of(columns, figure)}
        if any(column.labels is None or column.keys != tuple(keys) for column in parts.values()):
            continue
        for group, kept in groups.items():
            inside = {name: column.rows(kept) for name, column in parts.items()}
            usable = {name: column for name, column in inside.items() if {0, 1} <= set(column.labels.tolist())}  # type: ignore[union-attr]
            if not usable:
                continue
            patients = next(iter(usable.values())).patients
            statistic = figure_statistic(usable, figure)
            interval = Bootstrap(patients, resamples=resamples, seed=seed).interval(statistic)
            entry = found.setdefault(group, {"images": int(kept.sum()), "patients": len(set(patients))})
            entry[figure] = plain(statistic, len(patients))
            entry[f"{figure}_interval"] = list(interval) if isinstance(interval, tuple) else None
    return found
