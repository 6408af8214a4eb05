"""A folder of radiographs with a CSV or JSON-lines table of reports, any column names."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import what_is_there
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.label_states import label_state
from msvl.data.patient_facts import patient_facts
from msvl.data.shown import shown_cell
from msvl.data.sources.table_masks import TableMasks
from msvl.data.sources.table_rows import read_table
from msvl.data.study import Entry, Record

logger = logging.getLogger(__name__)

EXAMPLE = (
    "msvl data pack table --images IMAGES --reports reports.csv --image-column file --report-column text "
    "--patient-column patient_id --out shards/mine --train-tokenizer 2000"
)

MAX_LABEL_VALUES = 30
"""Distinct values above which a label column is taken for a mistake."""


@dataclass(frozen=True)
class TableColumns:
    """Which column holds what; None is absent."""

    image: str = "image"
    report: str | None = "report"
    patient: str | None = None
    study: str | None = None
    view: str | None = None
    split: str | None = None
    sections: dict[str, str] = field(default_factory=dict)
    """Section name -> column, for tables with sections apart."""
    labels: tuple[str, ...] = ()
    """Columns of 1 / 0 / -1 / blank, one per finding."""
    views: tuple[str, ...] = ()
    """Views that are kept, in the table's own words; empty keeps all."""
    sex: str | None = None
    age: str | None = None
    race: str | None = None
    category: str | None = None
    """A column with one finding's name per row: every value becomes a finding, present in its rows only."""


class TableSource:
    """Radiographs named in a table."""

    has_reports = True

    def __init__(
        self, images: Path, table: Path, columns: TableColumns, *, name: str = "table", licence: str = "not stated",
        shareable: bool = False, id_space: str | None = None, decoding: Decoding = AS_IT_IS, masks: TableMasks | None = None,
    ) -> None:  # fmt: skip
        """Name files and columns.

        Args:
            images: Folder that image names are relative to.
            table: CSV, TSV or JSON lines.
            columns: Which column holds what.
            name: Of the data set.
            licence: Of the data set.
            shareable: Whether its texts and images may leave the run folder.
            id_space: Who numbers the patients; None takes the name.
            decoding: How files are read.
            masks: Where masks are, if there are any.
        """
        for option, folder in (("images", images), ("masks", masks.folder if masks else None)):
            if folder is not None and not folder.is_dir():
                raise DataError(f"--{option} {folder}: there is no such folder")
        if not table.is_file():
            raise DataError(f"--reports {table}: there is no such file")
        self.name, self.licence, self.shareable = name, licence, shareable
        self.id_space = id_space or name
        self._images, self._table, self._columns = images, table, columns
        self._decoding, self._masks = decoding, masks
        self.mask_names: tuple[str, ...] = (masks.name,) if masks else ()
        self.prompts: dict[str, dict[str, list[str]]] = {}
        self._findings: list[str] = []

    def settings(self) -> dict[str, Any]:
        """Return what made this source; the table's content by size only."""
        return {
            "table": self._table.name,
            "bytes": self._table.stat().st_size,
            "columns": _plain(asdict(self._columns)),
            "window": self._decoding.window,
        }

    def entries(self) -> list[Entry]:
        """List the rows. Raises DataError naming table, row or column."""
        rows = list(read_table(self._table))
        if not rows:
            raise DataError(f"{self._table} has no rows")
        self._check_columns(set(rows[0][1]))
        column = self._columns
        if column.category:
            self._findings = sorted(
                {str(row[column.category]).strip() for _, row in rows if _filled(row, column.category)}
            )
            if len(self._findings) > MAX_LABEL_VALUES:
                raise DataError(
                    f"{self._table}: column '{column.category}' has {len(self._findings)} values; a label column has few"
                )
        nobody = sum(not _filled(row, column.patient) for _, row in rows) if column.patient else 0
        if nobody:
            logger.warning(
                "%s: %d of %d rows have nothing in column '%s': each, or each study, counts as a patient of its own, so images of one patient can fall "
                "into several splits",
                self._table, nobody, len(rows), column.patient,
            )  # fmt: skip
        entries = [self._entry(line, row) for line, row in rows]
        owners: dict[str, str] = {}
        for entry in entries:
            entry.payload["of_another"] = owners.setdefault(entry.image, entry.patient) != entry.patient
        return entries

    def record(self, entry: Entry) -> Record:
        """Read one row's image and report."""
        row = entry.payload
        if row["of_another"]:
            raise DataError(f"{entry.where}: its image is named above for another patient")
        if row["report"] is None:
            raise DataError(f"{entry.where}: the report is empty")
        if self._columns.views and row["view"].lower() not in self._columns.views:
            raise DataError(f"{entry.where}: its view is not among --views")
        image, full_size, _ = read_radiograph(self._images / entry.image, entry.where, self._decoding)
        masks = {}
        if self._masks:
            masks[self._masks.name] = self._masks.read(row["mask"], full_size, entry.where)
        return Record(
            image=image,
            full_size=full_size,
            report=row["report"],
            view=row["view"],
            labels=row["labels"],
            masks=masks,
            extra=row["extra"],
        )

    def _entry(self, line: int, row: dict[str, Any]) -> Entry:
        column, where = self._columns, f"{self._table.name} row {line}"
        if not _filled(row, column.image):
            raise DataError(f"{where}: the column '{column.image}' is empty, so there is no image to read")
        image = str(row[column.image]).strip()
        study = str(row[column.study]).strip() if column.study and _filled(row, column.study) else image
        # Images of a study are of one patient, whoever that is: no split may part them.
        patient = (
            str(row[column.patient]).strip() if column.patient and _filled(row, column.patient) else f"row-{study}"
        )
        payload = {
            "report": self._report(row),
            "view": str(row[column.view]).strip() if column.view and _filled(row, column.view) else "unknown",
            "labels": self._labels(where, row),
            "mask": str(row[self._masks.column]).strip() if self._masks and _filled(row, self._masks.column) else "",
            "extra": self._facts(row),
        }
        return Entry(patient, study, image, where, split=self._split(where, row), payload=payload)

    def _facts(self, row: dict[str, Any]) -> dict[str, Any]:
        own = {name: str(row[column]) for name in ("sex", "age", "race")
               if (column := getattr(self._columns, name)) and _filled(row, column)}  # fmt: skip
        return patient_facts(**own)

    def _report(self, row: dict[str, Any]) -> str | None:
        column = self._columns
        if column.sections:
            parts = [f"{name.upper()}: {row[key]}" for name, key in column.sections.items() if _filled(row, key)]
            return "\n".join(parts) or None
        return str(row[column.report]) if column.report and _filled(row, column.report) else None

    def _labels(self, where: str, row: dict[str, Any]) -> dict[str, int | None]:
        column = self._columns
        if column.category:
            value = str(row[column.category]).strip() if _filled(row, column.category) else None
            return {name: None if value is None else int(name == value) for name in self._findings}
        return {name: label_state("" if row[name] is None else str(row[name]), where, name) for name in column.labels}

    def _split(self, where: str, row: dict[str, Any]) -> str | None:
        column = self._columns.split
        if column is None:
            return None
        value = str(row[column]).strip().lower()
        names = {"train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
                 "dev": "val", "test": "test"}  # fmt: skip
        if value not in names:
            raise DataError(f"{where}: split {shown_cell(value)} in column '{column}'; expected train, val or test")
        return names[value]

    def _check_columns(self, present: set[str]) -> None:
        column = self._columns
        wanted = [
            column.image,
            *(v for v in (column.patient, column.study, column.view, column.split, column.category) if v),
            *(v for v in (column.sex, column.age, column.race, self._masks and self._masks.column) if v),
        ]
        wanted += [*column.labels, *(column.sections.values() if column.sections else [column.report or ""])]
        for name in wanted:
            if name not in present:
                close = difflib.get_close_matches(name, sorted(present), n=1)
                hint = f"did you mean '{close[0]}'?" if close else what_is_there(sorted(present))
                raise DataError(f"{self._table}: there is no column '{name}': {hint}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack table`."""
    parser.add_argument("--images", type=Path, required=True, help="folder that image names are relative to")
    parser.add_argument("--reports", type=Path, required=True, help="CSV (.csv, .tsv) or JSON lines (.jsonl), UTF-8")
    parser.add_argument("--image-column", default="image", help="file name of the image (default: image)")
    parser.add_argument("--report-column", default="report", help="report text (default: report)")
    parser.add_argument(
        "--section-columns", default="", help="sections in columns of their own: findings=COLUMN,impression=COLUMN"
    )
    for name in ("patient", "study", "view", "split", "sex", "age", "race"):
        parser.add_argument(f"--{name}-column", help=f"{name} of the row")
    parser.add_argument("--views", default="", help="keep these views only, for example PA,AP (needs --view-column)")
    parser.add_argument("--label-columns", default="", help="columns of 1 / 0 / -1 / blank, comma-separated")
    parser.add_argument("--category-column", help="column with one finding's name per row")
    parser.add_argument("--masks", type=Path, help="folder that mask names are relative to (default: --images)")
    parser.add_argument("--mask-column", help="file name of the image's mask, not 0 inside; rows without are left out")
    parser.add_argument("--mask-name", default="mask", help="what the masks show (default: mask)")
    parser.add_argument("--name", default="table", help="name of the data set (default: table)")
    parser.add_argument("--licence", default="not stated", help="its licence, for manifest and model card")
    parser.add_argument(
        "--id-space",
        metavar="NAME",
        help="who numbers the patients: sets packed with the same one are compared by patient (default: --name)",
    )
    parser.add_argument("--shareable", action="store_true", help="its texts and images may leave the run folder")
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> TableSource:
    """Build the source from parsed options. Raises DataError for malformed ones."""
    sections = {}
    for part in filter(None, arguments.section_columns.split(",")):
        name, equals, column = part.partition("=")
        if not equals:
            raise DataError(f"--section-columns '{part}': expected SECTION=COLUMN, for example findings=findings_text")
        sections[name.strip().lower()] = column.strip()
    if arguments.views and not arguments.view_column:
        raise DataError("--views needs --view-column: name the column that holds the view")
    if not arguments.patient_column:
        logger.warning(
            "without --patient-column every row (with --study-column every study) is taken for a patient of its own: images of one patient can fall into "
            "several splits, and figures would then be too good"
        )
    masks = None
    if arguments.mask_column:
        masks = TableMasks(arguments.masks or arguments.images, arguments.mask_column, arguments.mask_name)
    elif arguments.masks:
        raise DataError("--masks needs --mask-column: name the column that holds the mask's file")
    columns = TableColumns(
        image=arguments.image_column,
        report=None if sections else arguments.report_column,
        patient=arguments.patient_column,
        study=arguments.study_column,
        view=arguments.view_column,
        split=arguments.split_column,
        sex=arguments.sex_column,
        age=arguments.age_column,
        race=arguments.race_column,
        views=tuple(filter(None, (name.strip().lower() for name in arguments.views.split(",")))),
        sections=sections,
        labels=tuple(filter(None, (name.strip() for name in arguments.label_columns.split(",")))),
        category=arguments.category_column,
    )
    return TableSource(
        arguments.images, arguments.reports, columns, name=arguments.name, licence=arguments.licence,
        shareable=arguments.shareable, id_space=arguments.id_space, decoding=Decoding.from_arguments(arguments),
        masks=masks,
    )  # fmt: skip


def _filled(row: dict[str, Any], column: str) -> bool:
    value = row.get(column)
    return value is not None and str(value).strip().lower() not in ("", "nan", "none", "null")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
