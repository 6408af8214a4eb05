"""What a source has listed, counted: shown before packing, so that a wrong table is seen before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msvl.data.study import Entry

MOST_VALUES = 8
"""Values of a column that are named; the others are counted together."""
STATES = (1, 0, -1, None)


def summarise(entries: Iterable[Entry]) -> str:
    """Return counts of splits, views, sexes, ages and label states as lines of text; what no entry has is left out."""
    listed = list(entries)
    lines = [
        f"listed {len(listed):,} images of {len({(e.patient, e.study) for e in listed}):,} studies of "
        f"{len({e.patient for e in listed}):,} patients"
    ]
    for name, values in (
        ("split", [entry.split or "" for entry in listed]),
        ("view", [entry.view for entry in listed]),
        ("sex", [entry.extra.get("sex", "") for entry in listed]),
    ):
        if any(values):
            lines.append(f"{name:6s} {_counts(Counter(values))}")
    ages = [entry.extra["age"] for entry in listed if "age" in entry.extra]
    if ages:
        lines.append(f"age    {min(ages):g} to {max(ages):g} years, not known {len(listed) - len(ages):,}")
    lines += _labels(listed)
    return "".join(f"  {line}\n" for line in lines)


def _counts(values: Counter[str]) -> str:
    named = [f"{value or 'not known'} {count:,}" for value, count in values.most_common(MOST_VALUES)]
    others = sum(values.values()) - sum(count for _, count in values.most_common(MOST_VALUES))
    return ", ".join(named + ([f"{len(values) - MOST_VALUES} others {others:,}"] if others else []))


def _labels(listed: list[Entry]) -> list[str]:
    states: dict[str, Counter[int | None]] = {}
    for entry in listed:
        for finding, state in entry.labels.items():
            states.setdefault(finding, Counter())[state] += 1
    if not states:
        return []
    lines = ["labels 1 / 0 / -1 / blank"]
    for finding, counts in states.items():
        counts[None] += len(listed) - counts.total()
        lines.append(f"  {finding:26s} " + " / ".join(f"{counts[state]:,}" for state in STATES))
    return lines
