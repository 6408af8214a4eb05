"""Published lists of images as they come: CSV, TSV, text, JSON, gzipped or not, with or without a header."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import csv_rows
from msvl.data.leaks.layouts import IMAGE_ENDING, read_name

ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".csv.gz", ".tsv.gz", ".txt.gz")
"""Names of lists; everything else is taken for a packed set."""

KNOWN = {
    "image": ("path", "path_to_image", "image_path", "imagepath", "image index", "imageid", "image_id", "dicom_id",
              "source_image", "filename", "file_name", "file", "image", "img", "patientid"),
    "patient": ("patient_id", "patientid", "patient id", "subject_id", "deid_patient_id", "source_patient", "patient"),
    "study": ("study_id", "studyid", "source_study", "study", "studyinstanceuid"),
    "split": ("split", "subset"),
    "text": ("report", "text", "caption", "findings", "impression"),
}  # fmt: skip
"""Header names in lower case, the first that is there counts. RSNA calls its images `patientId`."""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
          "dev": "val", "test": "test"}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None looks for a known name."""

    image: str | None = None
    patient: str | None = None
    study: str | None = None
    split: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Row:
    """An image of a list; empty where the list does not say."""

    path: str
    patient: str = ""
    study: str = ""
    split: str = ""
    text: str = ""


@dataclass(frozen=True)
class ListFile:
    """What a list holds."""

    path: Path
    rows: tuple[Row, ...]
    patient_column: str | None


def is_list(path: str) -> bool:
    """Return whether an argument of the command names a list."""
    return path.lower().endswith(ENDINGS)


def read_list(path: Path, columns: Columns) -> ListFile:
    """Read a list, each of its rows once.

    Raises DataError naming file, row or column and the cure; what stands in the cells is not shown.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    named = [name for name in vars(columns).values() if name]
    header, records = read_records(path, named)
    chosen = {field.name: _column(path, header, field.name, getattr(columns, field.name)) for field in fields(columns)}
    if chosen["image"] is None:
        raise DataError(f"{path} has no column that is known to name images: name it with --image-column")
    if chosen["patient"] == chosen["image"]:
        chosen["patient"] = None
    rows = dict.fromkeys(_row(path, number, record, chosen) for number, record in enumerate(records, start=1))
    if not rows:
        raise DataError(f"{path} lists no images")
    return ListFile(path, tuple(rows), chosen["patient"])


def read_records(path: Path, named: Iterable[str] = ()) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """Return the column names and the rows of a list; one without a header has the one column `image`.

    Args:
        path: The list.
        named: Columns that the user named: a first line that has one of them is a header.

    Raises:
        DataError: it is no such file.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        if path.name.endswith((".json", ".jsonl")):
            values = _json_rows(text, lines=path.suffix == ".jsonl")
            return list(dict.fromkeys(name for value in values for name in value)), iter(values)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): give a UTF-8 list (.csv, .tsv, .txt, .json, .jsonl; .gz)"
        ) from error
    first = text.lstrip().partition("\n")[0]
    delimiter = "\t" if ".tsv" in path.name or ("\t" in first and "," not in first) else ","
    header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    known = {name for names in KNOWN.values() for name in names} | {name.lower() for name in named}
    if known & {cell.lower() for cell in header}:
        rows = csv_rows(path, io.StringIO(text.lstrip(), newline=""), delimiter)
        next(rows)
        return header, (dict(zip(header, row, strict=False)) for _, row in rows if row)
    if not _names_an_image(_first_field(first, delimiter)):
        raise DataError(
            f"{path} has neither a header with a known column nor the name of an image in its first line: name the columns "
            "with --image-column and --patient-column"
        )
    return ["image"], ({"image": _first_field(line, delimiter)} for line in text.splitlines() if line.strip())


def _json_rows(text: str, *, lines: bool) -> list[dict[str, Any]]:
    """Return the objects of a list, of JSON lines, or of an object that maps splits to lists (R2Gen's annotation.json)."""
    value = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    if isinstance(value, dict):
        value = [
            {"split": name, **row}
            for name, rows in value.items()
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict)
        ]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("not a list of objects")
    return value


def _column(path: Path, header: list[str], role: str, given: str | None) -> str | None:
    by_name = {name.lower(): name for name in reversed(header)}
    if given is not None:
        if given.lower() not in by_name:
            raise DataError(f"{path}: there is no column '{given}': mend --{role}-column")
        return by_name[given.lower()]
    return next((by_name[name] for name in KNOWN[role] if name in by_name), None)


def _row(path: Path, number: int, record: dict[str, Any], chosen: dict[str, str | None]) -> Row:
    values = {role: _text(record.get(column)) if column else "" for role, column in chosen.items()}
    if not values["image"]:
        raise DataError(f"{path}, record {number}: the column '{chosen['image']}' is empty, so there is no image")
    split = values["split"].lower()
    if split and split not in SPLITS:
        raise DataError(
            f"{path}, record {number}: the column '{chosen['split']}' says neither train, val nor test: name another with "
            "--split-column"
        )
    return Row(values["image"], values["patient"], values["study"], SPLITS.get(split, ""), values["text"])


def _text(value: Any) -> str:
    """Return a cell as text; of several images (R2Gen's `image_path`) the first."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value).strip()


def _first_field(line: str, delimiter: str) -> str:
    """Return the name at the start of a line without a header; labels may follow it."""
    cell = line.split(delimiter)[0].strip().strip('"')
    words = cell.split()
    # Blanks are part of a name only where an ending comes after them.
    return cell if IMAGE_ENDING.search(cell) else (words[0] if words else "")


def _names_an_image(field: str) -> bool:
    """Names of images have an ending, a folder or a number in them; headers that nobody knows have not."""
    return bool(read_name(field) or IMAGE_ENDING.search(field) or "/" in field or re.search(r"\d", field))
