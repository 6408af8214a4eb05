"""IU X-ray (Open-i, Indiana University): PNG or DICOM with reports in XML; one report is one patient, as far as anybody knows."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import not_utf8, place, read_rows
from msvl.data.image_files import AS_IT_IS, Decoding, add_window, read_radiograph
from msvl.data.openi_reports import OpeniReport, dicom_path, read_reports
from msvl.data.set_folder import split_files
from msvl.data.shown import shown_cell
from msvl.data.study import Entry, Record
from msvl.data.view_names import GROUPS, add_views, choose_views, parse_views, view_group, view_name

logger = logging.getLogger(__name__)
EXAMPLE = (
    "msvl data pack iu-xray --images NLMCXR_png --reports NLMCXR_reports.tgz --out shards/iu --train-tokenizer 2000"
)
NORMAL = "normal"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class IuOptions:
    """What is read."""

    images: Path
    """Folder of PNG files (NLMCXR_png), or of DICOM files in folders by report (NLMCXR_dcm)."""
    reports: Path
    """NLMCXR_reports.tgz, or a folder that it was unpacked to."""
    projections: Path | None = None
    """indiana_projections.csv of the release on Kaggle, the only table that tells views."""
    split_file: Path | None = None
    """annotation.json of R2Gen, whose split most papers use; the data set has none."""
    views: tuple[str, ...] = ("frontal", "unknown")
    decoding: Decoding = AS_IT_IS


class IuXraySource:
    """One entry per image; reports have no sections but those of the XML, under their headings."""

    name = "iu-xray"
    id_space = "iu-xray"
    licence = "CC BY-NC-ND 4.0 (Indiana University): packed sets must not be passed on"
    shareable = False
    has_reports = True
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, options: IuOptions) -> None:
        """Raise DataError when the folder of images is not there."""
        if not options.images.is_dir():
            raise DataError(f"--images {options.images}: there is no such folder")
        self._options = options
        self._dicom = next(options.images.glob("*.png"), None) is None

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        options = self._options
        return {
            "images": "dicom" if self._dicom else "png",
            "projections": bool(options.projections),
            "split_files": split_files(options.split_file),
            "views": list(options.views),
            "window": options.decoding.window,
        }

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming the file."""
        options = self._options
        if not options.projections:
            logger.warning(
                "%s: without --projections no view is known (those of the DICOM headers are often wrong), and laterals are packed "
                "among the frontal images",
                self.name,
            )
        return choose_views(self._images(), options.views, self.name)

    def record(self, entry: Entry) -> Record:
        """Read one image."""
        options = self._options
        image, full_size, _ = read_radiograph(
            options.images / entry.payload["path"],
            entry.where,
            options.decoding,
        )
        extra = {"mesh": entry.payload["terms"]} if entry.payload["terms"] else {}
        return Record(
            image,
            entry.payload["report"],
            view=entry.view,
            labels=entry.labels,
            full_size=full_size,
            extra=extra,
        )

    def _images(self) -> Iterator[tuple[str, Entry]]:
        options = self._options
        views = _read_projections(options.projections) if options.projections else {}
        splits = _read_splits(options.split_file) if options.split_file else {}
        for report in read_reports(options.reports):
            for place_in_report, image in enumerate(report.images, start=1):
                view = views.get(dicom_path(image).partition("/")[2].removesuffix(".dcm"), "unknown")
                yield (
                    view_group(view),
                    self._entry(
                        report,
                        image,
                        f"{report.where} image {place_in_report}",
                        view_name(view),
                        splits.get(report.number),
                    ),
                )

    def _entry(self, report: OpeniReport, image: str, where: str, view: str, split: str | None) -> Entry:
        if self._options.split_file and split is None:
            # R2Gen leaves out reports without findings or without two images: those can only be trained on.
            split = "train"
        return Entry(
            patient=report.number,
            study=report.number,
            image=image,
            where=where,
            split=split,
            payload={
                "path": dicom_path(image) if self._dicom else f"{image}.png",
                "report": report.text,
                "terms": list(report.terms),
            },
            view=view,
            labels={NORMAL: int(report.terms == (NORMAL,)) if report.terms else None},
        )


def _read_projections(path: Path) -> dict[str, str]:
    """Return name of the image without report and suffix, such as `1_IM-0001-4001` -> Frontal or Lateral."""
    views: dict[str, str] = {}
    for number, row in read_rows(path, ("uid", "filename", "projection")):
        if view_group(row["projection"]) not in GROUPS[:2]:
            raise DataError(
                f"{place(path, number)}: projection {shown_cell(row['projection'])}; expected Frontal or Lateral"
            )
        image, view = re.sub(r"(\.dcm)?\.png$", "", row["filename"]), row["projection"].lower()
        if views.setdefault(image, view) != view:
            raise DataError(
                f"{place(path, number)}: its image has the other projection above: download the table again"
            )
    return views


def _read_splits(path: Path) -> dict[str, str]:
    """Return report -> split of R2Gen's annotation.json, whose ids begin with that of the report."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(item["id"]), split) for split in SPLITS for item in content[split]]
    except OSError as error:
        raise DataError(f"--split-file {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--split-file {path}: expected the lists train, val and test, each of objects with an id"
        ) from error
    splits: dict[str, str] = {}
    for place_in_file, (name, split) in enumerate(found, start=1):
        number = re.match(r"CXR(\d+)_", name)
        if not number:
            raise DataError(
                f"--split-file {path}: id number {place_in_file:,} does not begin with a report such as CXR2384_"
            )
        if splits.setdefault(number[1], split) != split:
            raise DataError(f"--split-file {path}: the report of id number {place_in_file:,} is in another split too")
    return splits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack iu-xray`."""
    parser.add_argument("--images", type=Path, required=True, help="folder NLMCXR_png or NLMCXR_dcm")
    parser.add_argument("--reports", type=Path, required=True, help="NLMCXR_reports.tgz, or the folder it unpacks to")
    parser.add_argument(
        "--projections", type=Path, metavar="CSV", help="indiana_projections.csv (Kaggle), which tells the views"
    )
    parser.add_argument(
        "--split-file", type=Path, metavar="JSON", help="annotation.json of R2Gen; what it leaves out goes to train"
    )
    add_views(parser)
    parser.set_defaults(views="frontal,unknown")
    add_window(parser)


def from_arguments(arguments: argparse.Namespace) -> IuXraySource:
    """Build the source from parsed options. Raises DataError."""
    return IuXraySource(
        IuOptions(
            images=arguments.images,
            reports=arguments.reports,
            projections=arguments.projections,
            split_file=arguments.split_file,
            views=parse_views(arguments.views),
            decoding=Decoding.from_arguments(arguments),
        )
    )
