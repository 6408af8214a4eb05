"""Rows of anybody's own table: no row is lost in another, whatever stands in its cells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.sources.table_rows import read_table

ODD = "Clear\x0clungs\u2028and\x85no\x1ceffusion."
"""Characters at which Python's splitlines() ends a line, and no table does."""


def rows(path: Path, text: str) -> list[tuple[int, dict[str, object]]]:
    path.write_bytes(text.encode())
    return list(read_table(path))


def test_separators_inside_a_text_end_no_row(tmp_path: Path) -> None:
    expected = [(2, {"image": "a.png", "report": ODD}), (3, {"image": "b.png", "report": "Clear."})]
    assert rows(tmp_path / "t.csv", f"image,report\na.png,{ODD}\nb.png,Clear.\n") == expected
    assert rows(tmp_path / "t.tsv", f"image\treport\r\na.png\t{ODD}\r\nb.png\tClear.\r\n") == expected
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for _, row in expected)
    assert [row for _, row in rows(tmp_path / "t.jsonl", lines)] == [row for _, row in expected]


@pytest.mark.parametrize("end", ["", '"Clear."\n'], ids=["no other quote", "a later quote"])
def test_an_open_quote_does_not_swallow_the_rows_below(tmp_path: Path, end: str) -> None:
    text = 'image,report\na.png,Clear.\nb.png,"Effusion on the left.\nc.png,Clear.\nd.png,' + (end or "Clear.\n")
    with pytest.raises(DataError, match=r"t\.csv, after row 2: this is no CSV .*a quote inside a text must be doubled"):
        rows(tmp_path / "t.csv", text)


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: the column 'report' is there twice: rename or remove one"):
        rows(tmp_path / "t.csv", "image,report, report\na.png,One.,Two.\n")


def test_blanks_round_names_and_empty_lines(tmp_path: Path) -> None:
    found = rows(tmp_path / "t.csv", "\ufeffimage, report\n\na.png,Clear.\n\n")
    assert found == [(3, {"image": "a.png", "report": "Clear."})], "rows count as a spreadsheet counts them"
