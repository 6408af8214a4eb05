"""MIMIC-CXR-JPG (PhysioNet), with the reports of MIMIC-CXR or a table of their sections."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows
from msvl.data.images import read_reduced
from msvl.data.label_states import CHEXPERT_FINDINGS, check_labelled, label_states
from msvl.data.mimic_reports import ReportFiles, section_reports
from msvl.data.mimic_views import DEVICE, VIEW, VIEW_CODE, check_corrections, read_corrections, row_view
from msvl.data.set_folder import split_files
from msvl.data.shown import shown_cell
from msvl.data.study import Entry, Record
from msvl.data.view_names import add_views, choose_views, parse_views

EXAMPLE = (
    "msvl data pack mimic-cxr-jpg --images mimic-cxr-jpg/2.1.0 --reports mimic-cxr/2.1.0/mimic-cxr-reports --out shards/mimic "
    "--train-tokenizer 30000"
)
SPLITS = {"train": "train", "validate": "val", "test": "test"}
LABELLERS = {
    "chexpert": "mimic-cxr-2.0.0-chexpert.csv",
    "negbio": "mimic-cxr-2.0.0-negbio.csv",
    "radiologist": "mimic-cxr-2.1.0-test-set-labeled.csv",
}
"""--labels -> table; all but the last name stay the same in version 2.1.0."""
METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
_IDS = {"subject_id": r"1\d{7}", "study_id": r"5\d{7}", "dicom_id": r"[0-9a-f]{8}(-[0-9a-f]{8}){4}"}


@dataclass(frozen=True)
class MimicOptions:
    """What is read."""

    images: Path
    """Folder of a version of MIMIC-CXR-JPG: tables, and `files/`."""
    reports: ReportFiles | None = None
    """Report files, where there are any."""
    sections: Path | None = None
    """Table of sections in their place."""
    labels: str = "chexpert"
    """A labeller of LABELLERS, or none."""
    views: tuple[str, ...] = ("frontal",)
    without: frozenset[str] = frozenset()
    """Subject ids of patients to leave out."""
    view_corrections: Path | None = None
    """Table of dicom_id and ViewPosition that count in the place of the metadata's."""
    decode_at_least: int = 0
    """Short side in pixels that JPEGs may be reduced to, 0 the whole."""


class MimicCxrJpgSource:
    """One entry per image; labels and report are those of its study."""

    name = "mimic-cxr-jpg"
    id_space = "mimic-cxr"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    shareable = False
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, options: MimicOptions) -> None:
        """Raise DataError when the folder or the labeller is not there."""
        check_root(options.images)
        if options.labels not in (*LABELLERS, "none"):
            raise DataError(f"--labels {options.labels}: choose one of {', '.join(LABELLERS)}, none")
        self._options = options
        self.has_reports = bool(options.reports or options.sections)

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        options = self._options
        return {
            "labels": options.labels,
            "views": list(options.views),
            "reports": "files" if options.reports else "sections" if options.sections else "none",
            "patients_left_out": len(options.without),
            "view_corrections": split_files(options.view_corrections),
            "split_files": split_files(table(options.images, SPLIT)),
        }

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming table and row."""
        options = self._options
        entries = choose_views(self._rows(), options.views, self.name)
        if options.labels != "none":
            check_labelled((entry.labels for entry in entries), table(options.images, LABELLERS[options.labels]))
        return entries

    def record(self, entry: Entry) -> Record:
        """Read one image and the report of its study."""
        options, found = self._options, entry.payload
        report = found["report"]
        if options.reports:
            report = options.reports.read(entry.patient, entry.study, entry.where)
        image, full_size = read_reduced(options.images / found["path"], entry.where, options.decode_at_least)
        return Record(image, report, view=entry.view, labels=entry.labels, full_size=full_size)

    def _rows(self) -> Iterator[tuple[str, Entry]]:
        splits = self._splits()
        labels = self._labels()
        reports = section_reports(self._options.sections) if self._options.sections else {}
        path, corrected = table(self._options.images, METADATA), self._corrections(splits)
        columns = ("dicom_id", "subject_id", "study_id", VIEW, "StudyDate", "StudyTime")
        for number, row in read_rows(path, columns, (VIEW_CODE, DEVICE)):
            where = place(path, number)
            check_ids(row, where)
            if row["subject_id"] in self._options.without:
                continue
            if row["dicom_id"] not in splits:
                raise DataError(
                    f"{where}: its image is not in the split table; take both tables from the same version of the data set"
                )
            group, view = row_view(row | {VIEW: corrected.get(row["dicom_id"], row[VIEW])})
            yield (
                group,
                Entry(
                    patient=row["subject_id"],
                    study=row["study_id"],
                    image=row["dicom_id"],
                    where=where,
                    split=splits[row["dicom_id"]],
                    payload={
                        "path": image_path(row["subject_id"], row["study_id"], row["dicom_id"]),
                        "report": reports.get(row["study_id"], ""),
                    },
                    order=study_time(row["StudyDate"], row["StudyTime"], where),
                    view=view,
                    labels=labels.get(row["study_id"], {}),
                ),
            )

    def _corrections(self, listed: Collection[str]) -> dict[str, str]:
        path = self._options.view_corrections
        found = read_corrections(path) if path else {}
        if path:
            check_corrections(path, found, listed)
        return found

    def _splits(self) -> dict[str, str]:
        path = table(self._options.images, SPLIT)
        splits: dict[str, str] = {}
        for number, row in read_rows(path, ("dicom_id", "split")):
            if row["split"] not in SPLITS:
                raise DataError(
                    f"{place(path, number)}: split {shown_cell(row['split'])}; expected {', '.join(SPLITS)}"
                )
            split = SPLITS[row["split"]]
            if splits.setdefault(row["dicom_id"], split) != split:
                raise DataError(
                    f"{place(path, number)}: its image has another split above: two tables were joined: use one"
                )
        return splits

    def _labels(self) -> dict[str, dict[str, int | None]]:
        """Return study -> labels; studies without a row have none."""
        if self._options.labels == "none":
            return {}
        path = table(self._options.images, LABELLERS[self._options.labels])
        names = {finding: finding for finding in CHEXPERT_FINDINGS}
        if self._options.labels == "radiologist":
            names["Airspace Opacity"] = names.pop("Lung Opacity")
        labels: dict[str, dict[str, int | None]] = {}
        for number, row in read_rows(path, ("study_id", *names)):
            where = place(path, number)
            _check_id(row, "study_id", where)
            if row["study_id"] in labels:
                raise DataError(f"{where}: its study has a row above already; download the table again")
            states = label_states(row, tuple(names), where)
            labels[row["study_id"]] = {names[name]: state for name, state in states.items()}
        return labels


def check_root(images: Path) -> None:
    """Raise DataError when --images is not the folder of a version of MIMIC-CXR-JPG."""
    if not images.is_dir():
        raise DataError(f"--images {images}: there is no such folder")
    if not (images / "files").is_dir():
        raise DataError(
            f"--images {images} has no folder files/: name the folder of the version, such as mimic-cxr-jpg/2.1.0"
        )


def table(images: Path, name: str) -> Path:
    """Return the path of a table, compressed or not. Raises DataError when it is not there."""
    for path in (images / f"{name}.gz", images / name):
        if path.is_file():
            return path
    raise DataError(f"{images} has no {name}.gz: download it from PhysioNet into this folder")


def image_path(subject: str, study: str, dicom: str) -> str:
    """Return where an image lies below the data set's folder."""
    return f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"


def study_time(date: str, time: str, where: str) -> float:
    """Return a number that grows with date and time. StudyTime is a float: 80556.875 is 08:05:56.875."""
    try:
        return float(date) * 1e6 + (float(time) if time else 0.0)
    except ValueError:
        raise DataError(
            f"{where}: StudyDate or StudyTime is no date and time as YYYYMMDD and HHMMSS; a spreadsheet may have changed it: "
            "download the table again"
        ) from None


def check_ids(row: Mapping[str, str], where: str) -> None:
    """Raise DataError for ids that a spreadsheet has changed."""
    for column in _IDS:
        _check_id(row, column, where)


def _check_id(row: Mapping[str, str], column: str, where: str) -> None:
    if not re.fullmatch(_IDS[column], row[column]):
        raise DataError(
            f"{where}: {column} is no id of MIMIC-CXR; a spreadsheet may have changed it: download the table again"
        )


def patients_named(path: Path) -> frozenset[str]:
    """Return the subject ids that a file names: in paths such as `files/p10/p10000032/...`, or alone on a line.

    So the tables of MS-CXR can be given as they are. Raises DataError when there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--without {path} cannot be read ({error})") from error
    found = frozenset(re.findall(r"(?:/p|^p?)(1\d{7})(?=/|\s|$)", text, re.MULTILINE))
    if not found:
        raise DataError(f"--without {path} names no patient: give a table with image paths, or one subject id per line")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack mimic-cxr-jpg`."""
    parser.add_argument("--images", type=Path, required=True, help="folder of the version, with files/ and the tables")
    parser.add_argument("--reports", type=Path, help="folder of the unpacked mimic-cxr-reports.zip")
    parser.add_argument("--sections", type=Path, help="mimic_cxr_sectioned.csv, in the place of --reports")
    parser.add_argument(
        "--labels", default="chexpert", choices=(*LABELLERS, "none"), help="whose labels (default: %(default)s)"
    )
    parser.add_argument(
        "--without", type=Path, metavar="FILE", help="leave out the patients that it names, such as MS-CXR's table"
    )
    add_views(parser)
    add_view_corrections(parser)


def add_view_corrections(parser: argparse.ArgumentParser) -> None:
    """Add --view-corrections."""
    parser.add_argument(
        "--view-corrections", type=Path, metavar="FILE",
        help="CSV with dicom_id and ViewPosition of images whose view in the metadata is wrong or blank",
    )  # fmt: skip


def from_arguments(arguments: argparse.Namespace) -> MimicCxrJpgSource:
    """Build the source from parsed options. Raises DataError for malformed ones."""
    if arguments.reports and arguments.sections:
        raise DataError("--reports and --sections: give one of them; sections come from the table or from the reports")
    return MimicCxrJpgSource(
        MimicOptions(
            images=arguments.images,
            reports=ReportFiles.find(arguments.reports) if arguments.reports else None,
            sections=arguments.sections,
            labels=arguments.labels,
            views=parse_views(arguments.views),
            without=patients_named(arguments.without) if arguments.without else frozenset(),
            view_corrections=arguments.view_corrections,
            decode_at_least=arguments.short_side,
        )
    )
