"""CSV tables of data sets as their authors ship them, read by column names; every fault names file, row and cure."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from msvl.config.errors import DataError

DATA = re.compile(r".{61}|\d{4}|\.$|\.\w{3,5}$|(\S+\s+){4}")
"""What cells have and names of columns have not: length, numbers, sentences, the endings of files."""
CELL_LIMIT = 1 << 24
"""Characters of a cell at most; the csv module's own 131,072 is less than some reports have."""
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "is compressed: name it with .gz at the end"),
    (b"PK\x03\x04", "is a zip or Excel file: unpack it, or save it as CSV UTF-8"),
    (b"\xff\xfe", "is UTF-16: save it as CSV UTF-8"),
    (b"\xfe\xff", "is UTF-16: save it as CSV UTF-8"),
    (b"version https://git-lfs", "is a pointer of git LFS: fetch the file itself with `git lfs pull`"),
    (b"<!DOCTYPE", "is a web page, perhaps that of a login: download the file again with your credentials"),
    (b"<!doctype", "is a web page, perhaps that of a login: download the file again with your credentials"),
    (b"<html", "is a web page, perhaps that of a login: download the file again with your credentials"),
)
"""What stands in the place of a CSV table at times: first bytes, and what to say."""


def read_rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, cells) of a .csv or .csv.gz; the header is row 1.

    Names are matched without regard to case; header and cells are stripped. `cells` has every required column and those
    optional ones that are there, under the names asked for. Columns that nobody asked for, unnamed ones and trailing
    separators are passed over. A quoted cell may hold line breaks.

    Raises:
        DataError: the file is missing, no UTF-8 CSV, lacks columns (all are named at once), has no rows, repeats its header, or a row has another number of cells.
    """
    with _open(path) as stream:
        rows = csv_rows(path, stream)
        header = [name.strip() for name in next(rows, (1, []))[1]]
        places = _places(path, header, required, optional)
        number = 1
        for number, row in rows:
            if not any(cell.strip() for cell in row):
                continue
            _check_row(path, number, row, header)
            # Cells that are missing at the end of a row belong to unnamed columns.
            yield number, {name: row[place].strip() for name, place in places.items() if place < len(row)}
        if number == 1:
            raise DataError(f"{path} has a header and no rows: download it again")


def csv_rows(path: Path, lines: IO[str], separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, cells) of an open table; the first row, its header, is row 1.

    Raises:
        DataError: a quote is left open or not doubled, or the table is no UTF-8.
    """
    csv.field_size_limit(CELL_LIMIT)
    number = 0
    try:
        # Not strict, an open quote would make one cell of all rows that follow, and they would be passed over.
        for number, row in enumerate(csv.reader(lines, delimiter=separator, strict=True), start=1):
            yield number, row
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except csv.Error as error:
        raise DataError(
            f"{path}, after row {number}: this is no CSV ({error}); a quote inside a text must be doubled, and one that is opened "
            "be closed, or the file is cut short"
        ) from error


def place(path: Path, row: int) -> str:
    """Return how a row is named in messages and in dropped.csv."""
    return f"{path.name} row {row}"


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as raw:
            start = raw.read(64)
            for mark, what in _FOREIGN:
                if start.startswith(mark):
                    raise DataError(f"{path} {what}")
            if not start.strip():
                raise DataError(f"{path} is empty: download it again")
            raw.seek(0)
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")  # type: ignore[arg-type]
    except gzip.BadGzipFile as error:
        raise DataError(f"{path} is not compressed: take .gz from its name, or download it again") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is cut short ({error}): download it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error


def not_utf8(path: Path) -> DataError:
    """Return the error for a text file that is not UTF-8, naming its first bad line."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        line = next(number for number, text in enumerate(stream, start=1) if not _is_utf8(text))
    return DataError(
        f"{path}, line {line}: this is not UTF-8; convert it first: iconv -f latin1 -t utf-8 {path.name} > utf8.csv"
    )


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _places(path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
    """Return column asked for -> its place. Raises DataError naming all that are missing, and one that is there twice."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(header):
        found.setdefault(name.casefold(), []).append(number)
    missing = [name for name in required if name.casefold() not in found]
    if missing:
        raise DataError(f"{path}: there is no column {', '.join(map(repr, missing))}: {what_is_there(header)}")
    places = {}
    for name in (*required, *optional):
        numbers = found.get(name.casefold(), [])
        if len(numbers) > 1:
            raise DataError(f"{path}: the column {name!r} is there {len(numbers)} times: remove all but one")
        if numbers:
            places[name] = numbers[0]
    return places


def what_is_there(header: Sequence[str]) -> str:
    """Return the columns of a table in words, without what looks like the cells of a first row."""
    if len(header) == 1:
        for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in header[0]:
                return f"its cells are separated by {name}; save it with commas"
    # Without a header these are cells of the first row, with ids and dates, which no message may repeat.
    if any(DATA.search(name) for name in header):
        return "its first row looks like data and not like a header; download the file again"
    return f"columns are {', '.join(filter(None, header))}; is it the right file and version?"


def _check_row(path: Path, number: int, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) == len(header) and row[0].strip() != header[0]:
        return
    short, long = header[len(row) :], row[len(header) :]
    if any(name and not name.startswith("Unnamed") for name in short) or any(cell.strip() for cell in long):
        raise DataError(
            f"{path} row {number}: it has {len(row)} cells and the header {len(header)}; the file is cut short, or commas lack "
            "quotes"
        )
    if len(row) > 1 and [cell.strip() for cell in row] == list(header):
        raise DataError(f"{path} row {number}: the header is there again; two tables were joined: use one")
