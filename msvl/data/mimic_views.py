"""Views of MIMIC-CXR's images: by the metadata, or by a table of views that were seen to be wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.shown import shown_cell
from msvl.data.view_names import view_group, view_name

VIEW, VIEW_CODE, DEVICE = "ViewPosition", "ViewCodeSequence_CodeMeaning", "AcquisitionDeviceProcessingDescription"


def row_view(row: Mapping[str, str]) -> tuple[str, str]:
    """Return the view's group and its name; a blank ViewPosition is looked up in the view code, then in the device's words."""
    device = row.get(DEVICE, "").upper()
    spoken = next((word for word in ("LATERAL", "PA", "AP") if re.search(rf"\b{word}\b", device)), "")
    for view in (row[VIEW], row.get(VIEW_CODE, ""), spoken):
        group = view_group(view)
        if group != "unknown":
            return group, view_name(view)
    return "unknown", "unknown"


def read_corrections(path: Path) -> dict[str, str]:
    """Return image -> view of a table with the columns dicom_id and ViewPosition, as MIMIC's own metadata has them.

    Raises DataError for a blank view, and for an image that is there twice with two views.
    """
    found: dict[str, str] = {}
    for number, row in read_rows(path, ("dicom_id", VIEW)):
        if view_group(row[VIEW]) == "unknown":
            raise DataError(
                f"{place(path, number)}: {VIEW} is {shown_cell(row[VIEW])}; give PA, AP, LATERAL or another view"
            )
        if found.setdefault(row["dicom_id"], row[VIEW]) != row[VIEW]:
            raise DataError(f"{place(path, number)}: its image has another {VIEW} above: leave one of the rows out")
    return found


def check_corrections(path: Path, corrections: Collection[str], listed: Collection[str]) -> None:
    """Raise DataError when a correction names an image that the metadata does not have."""
    unknown = len(set(corrections) - set(listed))
    if unknown:
        raise DataError(
            f"--view-corrections {path}: {unknown:,} of its {len(corrections):,} images are not in the metadata: its dicom_id must be "
            "those of the data set"
        )
