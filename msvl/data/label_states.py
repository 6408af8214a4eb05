"""Labels of four states: 1 present, 0 absent, -1 uncertain, None not mentioned. Blank is not 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msvl.config.errors import DataError
from msvl.data.shown import shown_cell

STATES: dict[str, int | None] = {
    "": None, "nan": None, "none": None, "null": None,
    "1": 1, "1.0": 1, "true": 1, "yes": 1,
    "0": 0, "0.0": 0, "false": 0, "no": 0,
    "-1": -1, "-1.0": -1,
}  # fmt: skip
"""Cell in lower case -> state."""
CHEXPERT_FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
"""The 14 of CheXpert's labeller, which CheXpert, CheXpert Plus and MIMIC-CXR-JPG share."""


def label_state(cell: str, where: str, column: str) -> int | None:
    """Return the state that a cell says. Raises DataError naming row and column."""
    try:
        return STATES[cell.strip().lower()]
    except KeyError:
        raise DataError(f"{where}: label {shown_cell(cell)} in column '{column}'; expected 1, 0, -1 or blank") from None


def check_labelled(labels: Iterable[Mapping[str, int | None]], table: Path) -> None:
    """Raise DataError when no listed image has labels: the table belongs to other images."""
    if not any(labels):
        raise DataError(f"{table} has a row for none of the listed images: take table and images from the same version")


def label_states(cells: Mapping[str, str], columns: Sequence[str], where: str) -> dict[str, int | None]:
    """Return column -> state of a row. Raises DataError naming row and column."""
    return {column: label_state(cells[column], where, column) for column in columns}
