"""What a comparison found, as text, as JSON, and as a list of samples to take out."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.leaks.compare import Overlap
from msvl.data.leaks.group import Argument

COUNTS = ("patients", "studies", "images", "near", "texts")
HEAD = ("first", "second", *COUNTS, "reached of the second")


def as_text(overlaps: Sequence[Overlap], arguments: Sequence[Argument]) -> str:
    """Return the table, a sentence per leak, and what could not be compared. Splits of two sets are shown where they share."""
    shown = [item for item in overlaps if _is_main(item) or any(getattr(item, name) for name in COUNTS)]
    rows = [_cells(item) for item in shown]
    lines = _aligned([HEAD, *rows]) if rows else ["nothing to compare: one list or set without splits"]
    leaks = (_sentence(item) for item in overlaps if item.leaks and _is_main(item))
    lines += ["", *notes(arguments), *leaks, *_candidates(overlaps)]
    if any(item.leaks for item in overlaps):
        lines.append(
            "--out FILE lists the samples; `msvl data forget SET KEY...` takes them out of a packed set. Shared texts are no "
            "leak."
        )
    else:
        whole = all(item.patients is not None and item.images is not None for item in overlaps)
        lines.append("no leak found" if whole else "no leak found in what could be compared")
    return "\n".join(lines) + "\n"


def as_json(overlaps: Sequence[Overlap], arguments: Sequence[Argument]) -> dict[str, Any]:
    """Return counts per comparison; null is what cannot be compared."""
    return {
        "leak": any(item.leaks for item in overlaps),
        "comparisons": [
            {
                "first": {"path": item.first.title, "split": item.first.split or None},
                "second": {"path": item.second.title, "split": item.second.split or None},
                **{name: getattr(item, name) for name in COUNTS},
                "candidates": item.candidates,
                "reached": item.reached,
                "images_of_second": item.size,
                "leak": item.leaks,
            }
            for item in overlaps
        ],
        "notes": notes(arguments),
    }


def notes(arguments: Sequence[Argument]) -> list[str]:
    """Return what the counts do not cover, with the cure."""
    found = [note for argument in arguments for note in argument.notes]
    for first, second in combinations(arguments, 2):
        if first.kind != second.kind:
            found.append(
                f"{first.title} and {second.title}: patients and images of a list and a packed set cannot be compared; name "
                "the table that --key-table wrote at packing instead of the set"
            )
        elif not first.register.shares(second.register):
            found.append(
                f"{first.title} and {second.title}: patients were not compared, one was packed with {first.register.about}, the "
                f"other with {second.register.about}. Where the same body numbers both, pack them with the same --id-key (tables "
                "also with the same --id-space), or compare the tables that --key-table wrote"
            )
        if first.text_kind != second.text_kind:
            found.append(
                f"{first.title} and {second.title}: texts were not compared, tars used in place keep hashes of whole captions"
            )
    return list(dict.fromkeys(found))


def write_samples(path: Path, overlaps: Sequence[Overlap], arguments: Sequence[Argument]) -> int:
    """Write a CSV of the samples that leak, readable by its owner alone; return how many.

    Raises DataError when it cannot be written.
    """
    samples = dict.fromkeys(row for item in overlaps if item.leaks and _is_main(item) for row in _rows(item, arguments))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "split", "sample", "shared_with", "its_split"])
            writer.writerows(samples)
    except OSError as error:
        raise DataError(f"--out {path} cannot be written ({error.strerror}): name another place") from error
    return len(samples)


def _rows(item: Overlap, arguments: Sequence[Argument]) -> Iterator[tuple[str, str, str, str, str]]:
    sides = ((item.first, item.leaking_first, item.second), (item.second, item.leaking_second, item.first))
    for side, leaking, other in sides:
        argument = next(argument for argument in arguments if argument.title == side.title)
        groups = [group for group in argument.groups if side.split in ("", group.split)]
        start = 0
        for group in groups:
            part = leaking[start : start + len(group)]
            start += len(group)
            for sample in group.samples[part]:
                yield side.title, group.split, str(sample), other.title, other.split


def _is_main(item: Overlap) -> bool:
    """Splits of one argument, and two arguments as a whole; the rest are parts of the latter."""
    return not item.first.split or item.first.title == item.second.title


def _cells(item: Overlap) -> tuple[str, ...]:
    counts = ["-" if (value := getattr(item, name)) is None else f"{value:,}" for name in COUNTS]
    share = f"{item.reached:,} of {item.size:,} ({item.reached / max(1, item.size):.1%})"
    return (str(item.first), str(item.second), *counts, share)


def _sentence(item: Overlap) -> str:
    parts = [
        f"{value:,} {name if value > 1 else name[:-1]}"
        for name, value in (("patients", item.patients), ("images", item.images), ("near-duplicates", item.near))
        if value
    ]
    return f"LEAK: {item.first} and {item.second} share {', '.join(parts)}"


def _candidates(overlaps: Sequence[Overlap]) -> list[str]:
    """Return what must be said of near-duplicates that nobody has looked at."""
    return [
        f"{item.candidates:,} near-duplicates of {item.first} and {item.second} are candidates: their images could not be read "
        "again to be compared in detail; see `msvl data verify`"
        for item in overlaps
        if item.candidates and _is_main(item)
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
