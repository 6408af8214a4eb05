"""Short sentences from labels, for labelled sets without reports, as CXR-CLIP and MedCLIP train on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

PRESENT = (
    "There is {finding}.",
    "{finding} is seen.",
    "Findings are consistent with {finding}.",
    "Evidence of {finding}.",
)
UNCERTAIN = ("Possible {finding}.", "{finding} cannot be excluded.", "Findings may represent {finding}.")
ABSENT = ("There is no {finding}.", "No evidence of {finding}.", "No {finding} is seen.")
NORMAL = ("No acute abnormality is seen.", "There is no abnormal finding.")
"""Wordings, one of which is drawn for each sentence."""
NORMAL_LABELS = frozenset(("no finding", "normal"))
"""Labels that deny all others."""
MOST_ABSENT = 3
"""Findings denied in one report: real ones do not deny fourteen."""


def report_from_labels(labels: Mapping[str, int | None], key: str) -> str:
    """Write a report from labels of 1 present, 0 absent, -1 uncertain, None unknown.

    Every present and uncertain finding gets a sentence, and at most three absent ones. Wordings, the denied findings and
    their order are a function of labels and `key`. Returns "" when no label says anything.
    """
    normal = [name for name, state in labels.items() if plain_name(name) in NORMAL_LABELS and state == 1]
    stated = {name: state for name, state in labels.items() if plain_name(name) not in NORMAL_LABELS}
    sentences = [_say(PRESENT, name, key) for name, state in stated.items() if state == 1]
    sentences += [_say(UNCERTAIN, name, key) for name, state in stated.items() if state == -1]
    absent = sorted((name for name, state in stated.items() if state == 0), key=lambda name: _draw(key, "absent", name))
    sentences += [_say(ABSENT, name, key) for name in absent[:MOST_ABSENT]]
    sentences += [_choose(NORMAL, key, name) for name in normal[:1]]
    return "FINDINGS: " + " ".join(sentences) if sentences else ""


def plain_name(finding: str) -> str:
    """Return a label's name as words: `Pleural_Thickening` is "pleural thickening"."""
    return " ".join(finding.replace("_", " ").lower().split())


def _say(wordings: Sequence[str], finding: str, key: str) -> str:
    sentence = _choose(wordings, key, finding).format(finding=plain_name(finding))
    return sentence[0].upper() + sentence[1:]


def _choose(wordings: Sequence[str], key: str, finding: str) -> str:
    return wordings[_draw(key, "wording", finding) % len(wordings)]


def _draw(key: str, purpose: str, finding: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{key}/{purpose}/{finding}".encode(), digest_size=8).digest(), "big")
