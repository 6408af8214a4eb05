"""Policies for uncertain labels, against hand-written tables."""

from __future__ import annotations

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.uncertainty import UNCERTAIN, UNKNOWN, blank_as_absent, resolve_all, resolve_uncertain

STATES = np.array([1, 0, UNCERTAIN, UNKNOWN])


@pytest.mark.parametrize(
    ("finding", "policy", "expected"),
    [
        ("Edema", "ones", 1),
        ("Edema", "zeros", 0),
        ("Edema", "ignore", UNKNOWN),
        ("Atelectasis", "chexpert", 1),
        ("Edema", "chexpert", 1),
        ("Pleural Effusion", "chexpert", 1),
        ("pleural_effusion", "chexpert", 1),
        ("Cardiomegaly", "chexpert", 0),
        ("Consolidation", "chexpert", 0),
        ("Pneumonia", "chexpert", UNKNOWN),
    ],
)
def test_only_uncertain_states_change(finding: str, policy: str, expected: int) -> None:
    assert resolve_uncertain(STATES, finding, policy).tolist() == [1, 0, expected, UNKNOWN]  # type: ignore[arg-type]
    assert STATES.tolist() == [1, 0, UNCERTAIN, UNKNOWN]


def test_all_findings_at_once_and_blanks() -> None:
    found = resolve_all({"Edema": STATES, "Cardiomegaly": STATES}, "chexpert")
    assert {name: values.tolist() for name, values in found.items()} == {
        "Edema": [1, 0, 1, UNKNOWN], "Cardiomegaly": [1, 0, 0, UNKNOWN],
    }  # fmt: skip
    assert blank_as_absent(STATES).tolist() == [1, 0, UNCERTAIN, 0]


def test_faults() -> None:
    with pytest.raises(DataError, match="no policy 'half' .* ignore, ones, zeros, chexpert"):
        resolve_uncertain(STATES, "Edema", "half")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"Edema: labels \[3\]; expected 1, 0, -1 or -2"):
        resolve_uncertain(np.array([3]), "Edema", "ones")
