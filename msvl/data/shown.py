"""How values of a source are told in messages: never what could be a name, a date, an id or a report."""

from __future__ import annotations

LONGEST = 3
"""Characters that are shown as they stand."""


def shown_cell(value: str) -> str:
    """Return a cell in quotes where it is too short to be anybody's, else its kind and length."""
    if len(value) <= LONGEST:
        return f"'{value}'"
    return f"a {'number' if value.replace('.', '', 1).isdigit() else 'text'} of {len(value):,} characters"
