"""Views of a chest radiograph: the words that data sets use for them, and the choice by --views."""

from __future__ import annotations

import argparse
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from msvl.config.errors import DataError
from msvl.data.study import Entry

logger = logging.getLogger(__name__)
GROUPS = ("frontal", "lateral", "other", "unknown")
_FRONTAL = frozenset((
    "frontal", "ap", "pa", "antero-posterior", "anteroposterior", "antero_posterior", "postero-anterior", "posteroanterior",
    "postero_anterior", "ap_horizontal",
))  # fmt: skip
_LATERAL = frozenset(("lateral", "ll", "rl", "l", "left lateral", "right lateral", "large lateral"))
_UNKNOWN = frozenset(("", "unknown", "n/a", "na", "nan", "none", "null"))


def view_group(view: str) -> str:
    """Return `frontal`, `lateral`, `other` (oblique, decubitus, ...) or `unknown` for a view in a data set's own words."""
    words = " ".join(view.lower().split())
    if words in GROUPS:
        return words
    for group, names in (("frontal", _FRONTAL), ("lateral", _LATERAL), ("unknown", _UNKNOWN)):
        if words in names:
            return group
    return "other"


def view_name(view: str) -> str:
    """Return PA or AP where the words mean one of them, else the words themselves; `unknown` for none."""
    if view_group(view) == "unknown":
        return "unknown"
    letters = re.sub(r"[\s_-]", "", view).upper()
    return {"POSTEROANTERIOR": "PA", "ANTEROPOSTERIOR": "AP"}.get(letters, view.strip())


def add_views(parser: argparse.ArgumentParser) -> None:
    """Add --views with the default of official data sets."""
    parser.add_argument(
        "--views",
        default="frontal",
        metavar="GROUPS",
        help="views to keep: frontal, lateral, other, unknown, comma-separated, or all (default: %(default)s)",
    )


def parse_views(text: str) -> tuple[str, ...]:
    """Read --views. Raises DataError for a group that there is none of."""
    names = [name for name in re.split(r"[,\s]+", text.strip().lower()) if name]
    if names == ["all"]:
        return GROUPS
    wrong = [name for name in names if name not in GROUPS]
    if wrong or not names:
        raise DataError(f"--views {text!r}: give {', '.join(GROUPS)}, comma-separated, or all")
    return tuple(group for group in GROUPS if group in names)


def choose_views(entries: Iterable[tuple[str, Entry]], groups: Sequence[str], name: str) -> list[Entry]:
    """Return the entries whose view is wanted; say how many others there are.

    Args:
        entries: (view group, entry).
        groups: Wanted ones.
        name: The source's.

    Raises:
        DataError: none is left.
    """
    kept, left_out = [], Counter[str]()
    for group, entry in entries:
        if group in groups:
            kept.append(entry)
        else:
            left_out[group] += 1
    counts = ", ".join(f"{group} {count:,}" for group, count in left_out.most_common())
    if not kept:
        raise DataError(
            f"the source {name} has no image of --views {','.join(groups)} ({counts or 'no image at all'}): choose others"
        )
    if left_out:
        logger.warning("%s: left out by --views: %s", name, counts)
    return kept
