"""The table from the keys in shards to the ids of the source. It is the only way back, so it stays beside the source."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from msvl.config.errors import DataError

if TYPE_CHECKING:  # who only reads a table, as launchers and training do, needs nothing of what packing needs
    from msvl.data.pack_plan import Unit

COLUMNS = ("key", "study", "patient", "split", "source_patient", "source_study", "source_image", "source_place")


def write_key_table(path: Path, units: Iterable[Unit]) -> None:
    """Write a CSV that its owner alone may read. Raises DataError when that is not possible."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.unlink(missing_ok=True)
        # Never readable by others, not for a moment.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            for job in (job for unit in units for job in unit.jobs):
                entry = job.entry
                names = (entry.patient, entry.study, entry.image, entry.where)
                writer.writerow([job.key, job.study, job.patient, job.split, *names])
        aside.replace(path)
    except OSError as error:
        raise DataError(f"--key-table {path} cannot be written ({error.strerror}): name another place") from error


def check_place(path: Path, out: Path | None) -> None:
    """Raise DataError when the table would lie in the packed set, which is copied and shared."""
    if out is not None and path.resolve().is_relative_to(out.resolve()):
        raise DataError(f"--key-table {path} is inside the packed set {out}: keep it beside the source")
