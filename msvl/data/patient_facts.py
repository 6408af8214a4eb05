"""Age, sex and race in the forms that data sets give them."""

from __future__ import annotations

import re
from typing import Any

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_PER_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
UNSAID = ("", "nan", "unknown")
MOST_YEARS = 120
"""Ages above are typing errors (148 to 155 and 411 to 414 in NIH and RSNA)."""


def age_in_years(text: str) -> float | None:
    """Return years from `58`, `62.0`, `058Y`, `011M`, `002D`; None when it is blank, no age, or more than anybody lives."""
    match = _AGE.fullmatch(text.strip())
    if not match:
        return None
    years = float(match.group(1)) / _PER_YEAR[match.group(2).upper() or "Y"]
    return round(years, 2) if years <= MOST_YEARS else None


def sex_letter(text: str) -> str | None:
    """Return M or F; None when it is blank, unknown or another value."""
    return {"m": "M", "male": "M", "f": "F", "female": "F"}.get(text.strip().lower())


def patient_facts(*, sex: str = "", age: str = "", race: str = "") -> dict[str, Any]:
    """Return the part of `Record.extra` that is known of the patient; race is in the data set's own words."""
    said = race.strip()
    facts = {"sex": sex_letter(sex), "age": age_in_years(age), "race": None if said.lower() in UNSAID else said}
    return {name: value for name, value in facts.items() if value is not None}
