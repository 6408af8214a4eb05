"""The shape of a grammar of reports, and the words that all grammars share.

There are three: `training_wordings`, `held_out_wordings` and `shifted_wordings`. Slots: {side}, {zone}, {severity},
{severely} (adverb), {size} in cm, {noun}; bilateral effusions have {on_left} and {on_right}.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Wordings:
    """What one grammar can say about one finding."""

    positive: tuple[str, ...]
    """Sentences when it is there."""
    negative: tuple[str, ...]
    """Sentences when it is not."""
    phrases: tuple[str, ...]
    """Noun phrases for impressions and boxes."""


@dataclass(frozen=True)
class Grammar:
    """One way of writing reports."""

    findings: dict[str, Wordings]
    bilateral: tuple[str, ...]
    """Sentences about fluid on both sides."""
    lists: tuple[str, ...]
    """Negations of several findings, with {list}."""
    clear: tuple[str, ...]
    """Sentences that deny consolidation and nodule at once."""
    others: tuple[str, ...]
    """Normal structures without a label."""
    normal: tuple[str, ...]
    """Impressions of a normal study."""
    summaries: tuple[str, ...]
    """Impressions of a study with findings, with {list}."""

    def as_dict(self) -> dict[str, Any]:
        """Return the tables as JSON values."""
        return asdict(self)


NOUNS = {
    "effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("consolidation", "focal consolidation", "airspace opacity"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
}
"""Names of findings in lists and in the {noun} slot."""

SEVERITY = {"small": "small", "moderate": "moderate", "large": "large"}
HEART_SEVERITY = {"small": "mild", "moderate": "moderate", "large": "severe"}
HEART_ADVERB = {"small": "mildly", "moderate": "moderately", "large": "severely"}
