"""The rows of anybody's own table: CSV, TSV or JSON lines."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import csv_rows, not_utf8

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_table(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number, or line of JSON lines; column -> cell).

    Only line feeds and carriage returns end a row: reports hold form feeds and the line separators of Unicode.

    Raises:
        DataError: the table is no UTF-8, has another ending, names a column twice, leaves a quote open, or a row has another
            number of fields. Names the table and the row.
    """
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(table) from error
    if table.suffix in (".jsonl", ".ndjson"):
        yield from _json_rows(table, text)
    elif table.suffix in SEPARATORS:
        yield from _csv_rows(table, text)
    else:
        raise DataError(f"{table}: expected a name that ends in .csv, .tsv or .jsonl")


def _csv_rows(table: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv_rows(table, io.StringIO(text, newline=""), SEPARATORS[table.suffix])
    header = [name.strip() for name in next(rows, (1, []))[1]]
    twice = [name for name, times in Counter(header).items() if name and times > 1]
    if twice:
        raise DataError(f"{table}: the column '{twice[0]}' is there twice: rename or remove one")
    for number, row in rows:
        if row and len(row) != len(header):
            raise DataError(
                f"{table.name} row {number}: it has another number of fields than the header's {len(header)}"
            )
        if row:
            yield number, dict(zip(header, row, strict=True))


def _json_rows(table: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{table.name} line {number}: this is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{table.name} line {number}: expected an object with named fields")
        yield number, row
