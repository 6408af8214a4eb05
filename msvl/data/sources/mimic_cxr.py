"""MIMIC-CXR (PhysioNet): DICOM with reports; splits, views and labels come from the tables of MIMIC-CXR-JPG."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.mimic_reports import ReportFiles
from msvl.data.patient_facts import patient_facts
from msvl.data.sources.mimic_cxr_jpg import (
    LABELLERS,
    MimicCxrJpgSource,
    MimicOptions,
    add_view_corrections,
    patients_named,
)
from msvl.data.study import Entry, Record
from msvl.data.view_names import add_views, parse_views

EXAMPLE = (
    "msvl data pack mimic-cxr --images mimic-cxr/2.1.0 --reports mimic-cxr/2.1.0/mimic-cxr-reports --tables mimic-cxr-jpg/2.1.0 "
    "--out shards/mimic-dicom --train-tokenizer 30000"
)


@dataclass(frozen=True)
class DicomOptions:
    """Where the DICOM files are and how they are shown."""

    root: Path
    """Folder of a version, with files/."""
    decoding: Decoding = AS_IT_IS


class MimicCxrSource(MimicCxrJpgSource):
    """The images of MIMIC-CXR-JPG before its windowing and histogram equalisation: never mix the two in one set."""

    name = "mimic-cxr"

    def __init__(self, options: MimicOptions, dicom: DicomOptions) -> None:
        """Raise DataError when the folder has no files/."""
        if not (dicom.root / "files").is_dir():
            raise DataError(
                f"--images {dicom.root} has no folder files/: name the folder of the version, such as mimic-cxr/2.1.0"
            )
        self._options, self._dicom = options, dicom
        self.has_reports = True

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return super().settings() | {"window": self._dicom.decoding.window}

    def record(self, entry: Entry) -> Record:
        """Read one image and the report of its study."""
        dicom, report = self._dicom, entry.payload["report"]
        if self._options.reports:
            report = self._options.reports.read(entry.patient, entry.study, entry.where)
        path = dicom.root / entry.payload["path"].replace(".jpg", ".dcm")
        if not path.is_file() and path.with_suffix(".dcm.gz").is_file():
            path = path.with_suffix(".dcm.gz")
        image, full_size, facts = read_radiograph(path, entry.where, dicom.decoding)
        return Record(
            image,
            report,
            view=entry.view,
            labels=entry.labels,
            full_size=full_size,
            extra=patient_facts(sex=facts.get("PatientSex", ""), age=facts.get("PatientAge", "")),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack mimic-cxr`."""
    parser.add_argument("--images", type=Path, required=True, help="folder of the version, with files/")
    parser.add_argument("--reports", type=Path, required=True, help="folder of the unpacked mimic-cxr-reports.zip")
    parser.add_argument(
        "--tables", type=Path, required=True, help="folder with the metadata, split and label tables of MIMIC-CXR-JPG"
    )
    parser.add_argument(
        "--labels", default="chexpert", choices=(*LABELLERS, "none"), help="whose labels (default: %(default)s)"
    )
    parser.add_argument(
        "--without", type=Path, metavar="FILE", help="leave out the patients that it names, such as MS-CXR's table"
    )
    add_views(parser)
    add_view_corrections(parser)
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> MimicCxrSource:
    """Build the source from parsed options. Raises DataError."""
    return MimicCxrSource(
        MimicOptions(
            images=arguments.tables,
            reports=ReportFiles.find(arguments.reports),
            labels=arguments.labels,
            views=parse_views(arguments.views),
            without=patients_named(arguments.without) if arguments.without else frozenset(),
            view_corrections=arguments.view_corrections,
        ),
        DicomOptions(arguments.images, Decoding.from_arguments(arguments)),
    )
