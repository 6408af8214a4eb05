"""What a message repeats of a cell."""

from __future__ import annotations

import pytest

from msvl.data.csv_table import what_is_there
from msvl.data.shown import shown_cell


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("", "''"),
        ("2.0", "'2.0'"),
        ("Miller", "a text of 6 characters"),
        ("10000032", "a number of 8 characters"),
        ("2031-03-07", "a text of 10 characters"),
    ],
)
def test_no_name_date_or_id_is_repeated(cell: str, shown: str) -> None:
    assert shown_cell(cell) == shown


@pytest.mark.parametrize("cell", ["00000001_000.png", "20310307", "No effusion is seen today", "Clear.", "x" * 61])
def test_a_first_row_of_data_is_not_shown_as_columns(cell: str) -> None:
    assert "Miller" not in what_is_there(["Miller", cell])
    assert what_is_there(["image", "text"]).startswith("columns are image, text")
