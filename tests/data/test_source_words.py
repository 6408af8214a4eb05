"""Views, ages, sexes and label states in the words of data sets."""

from __future__ import annotations

import logging

import pytest

from msvl.config.errors import DataError
from msvl.data.label_states import label_state
from msvl.data.patient_facts import patient_facts
from msvl.data.study import Entry
from msvl.data.view_names import choose_views, parse_views, view_group, view_name


@pytest.mark.parametrize(
    ("words", "group"),
    [
        ("PA", "frontal"), ("ap", "frontal"), ("POSTERO_ANTERIOR", "frontal"), ("antero-posterior", "frontal"),
        ("AP_horizontal", "frontal"), ("Frontal", "frontal"), ("LL", "lateral"), ("LATERAL", "lateral"), ("L", "lateral"),
        ("left lateral", "lateral"), ("RL", "lateral"), ("LARGE  LATERAL", "lateral"), ("LAO", "other"), ("AP AXIAL", "other"),
        ("XTABLE LATERAL", "other"), ("PA LLD", "other"), ("SWIMMERS", "other"), ("COSTAL", "other"), ("", "unknown"),
        ("UNKNOWN", "unknown"), ("N/A", "unknown"), ("LPO", "other"), ("RAO", "other"), ("RPO", "other"), ("AP LLD", "other"),
        ("AP RLD", "other"), ("PA RLD", "other"), ("L5 S1", "other"), ("EXCLUDE", "other"), ("POSTEROANTERIOR", "frontal"),
    ],
)  # fmt: skip
def test_views(words: str, group: str) -> None:
    assert view_group(words) == group


def test_one_name_for_the_two_frontal_views() -> None:
    words = ("POSTERO_ANTERIOR", "antero-posterior", "AP", "LATERAL", " LAO ", "N/A", "")
    assert [view_name(word) for word in words] == ["PA", "AP", "AP", "LATERAL", "LAO", "unknown", "unknown"]


def test_choice_of_views_counts_what_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    entries = [
        (group, Entry("p", "s", str(n), "row")) for n, group in enumerate(("frontal", "lateral", "lateral", "other"))
    ]
    with caplog.at_level(logging.WARNING):
        kept = choose_views(entries, parse_views("frontal"), "set")
    assert [entry.image for entry in kept] == ["0"]
    assert "set: left out by --views: lateral 2, other 1" in caplog.text
    assert len(choose_views(entries, parse_views("all"), "set")) == 4
    assert len(choose_views(entries, parse_views("Lateral, frontal"), "set")) == 3
    with pytest.raises(DataError, match="no image of --views unknown .lateral 2, frontal 1, other 1.: choose others"):
        choose_views(entries, ("unknown",), "set")
    for wrong in ("front", "", "all,frontal"):
        with pytest.raises(
            DataError, match="--views .*: give frontal, lateral, other, unknown, comma-separated, or all"
        ):
            parse_views(wrong)


@pytest.mark.parametrize(
    ("sex", "age", "facts"),
    [
        ("Female", "87", {"sex": "F", "age": 87.0}),
        ("M", "62.0", {"sex": "M", "age": 62.0}),
        ("Unknown", "058Y", {"age": 58.0}),
        ("", "006M", {"age": 0.5}),
        ("O", "002D", {"age": 0.01}),
        ("f", "414", {"sex": "F"}),
        ("", "old", {}),
    ],
)
def test_facts_of_a_patient(sex: str, age: str, facts: dict[str, object]) -> None:
    assert patient_facts(sex=sex, age=age) == facts


def test_label_states_and_their_fault() -> None:
    cells = ("1.0", "0", "-1.0", "", "NaN", "YES")
    assert [label_state(cell, "row 2", "Edema") for cell in cells] == [1, 0, -1, None, None, 1]
    with pytest.raises(DataError, match=r"t\.csv row 2: label '2' in column 'Edema'; expected 1, 0, -1 or blank"):
        label_state("2", "t.csv row 2", "Edema")
