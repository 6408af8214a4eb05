"""ReXGradient-160K (hub): multi-site radiographs with reports in four sections, no labels."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.csv_table import not_utf8
from msvl.data.images import read_reduced
from msvl.data.patient_facts import patient_facts
from msvl.data.study import Entry, Record
from msvl.data.view_names import add_views, choose_views, parse_views, view_group, view_name

logger = logging.getLogger(__name__)
EXAMPLE = "msvl data pack rexgradient --images ReXGradient-160K --out shards/rexgradient --train-tokenizer 30000"
SPLITS = {"train": "train", "valid": "val", "test": "test"}
METADATA = "{}_metadata_view_position.json"
"""The source of truth: the tables of the same names have no image paths."""
FOLDERS = ("download/metadata", "metadata", ".")
IMAGES = "deid_png"
SECTIONS = ("Indication", "Comparison", "Findings", "Impression")
BOXES = "interstitial_pattern_bbox.json"
"""Beside the metadata: some 398 boxes in a format that nobody has described, so they are not read."""
REQUIRED = ("ImagePath", "ImageViewPosition", *SECTIONS)


class RexGradientSource:
    """One entry per image; the report is that of its study."""

    name = "rexgradient"
    id_space = "rexgradient"
    licence = "ReXGradient-160K agreement (non-commercial research)"
    shareable = False
    has_reports = True
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, root: Path, views: tuple[str, ...] = ("frontal",), decode_at_least: int = 0) -> None:
        """Raise DataError when images or metadata are not there.

        Args:
            root: Folder with `deid_png/` and the metadata.
            views: Groups of views to keep.
            decode_at_least: Short side in pixels that JPEGs may be reduced to (the original has PNGs), 0 the whole.
        """
        if not root.is_dir():
            raise DataError(f"--images {root}: there is no such folder")
        if not (root / IMAGES).is_dir():
            raise DataError(
                f"--images {root} has no folder {IMAGES}/: unpack the images there (cat deid_png.part* | tar --zstd -x)"
            )
        self._root, self._views, self._decode_at_least = root, views, decode_at_least
        self._metadata = _metadata_folder(root)

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        return {"views": list(self._views)}

    def entries(self) -> list[Entry]:
        """List the images of the wanted views. Raises DataError naming file and entry."""
        if (self._metadata / BOXES).is_file():
            logger.warning("%s: %s is not read: the set is packed without boxes", self.name, BOXES)
        return choose_views(self._rows(), self._views, self.name)

    def record(self, entry: Entry) -> Record:
        """Read one image; its report was listed."""
        found = entry.payload
        image, full_size = read_reduced(self._root / found["path"], entry.where, self._decode_at_least)
        return Record(image, found["report"], view=entry.view, full_size=full_size, extra=entry.extra)

    def _rows(self) -> Iterator[tuple[str, Entry]]:
        for name, split in SPLITS.items():
            path = self._metadata / METADATA.format(name)
            for number, (key, study) in enumerate(_studies(path).items(), start=1):
                yield from _images(study, f"{path.name} entry {number}", key, split)


def _images(study: Any, where: str, key: str, split: str) -> Iterator[tuple[str, Entry]]:
    missing = [name for name in REQUIRED if not isinstance(study, dict) or name not in study]
    if missing:
        raise DataError(f"{where}: it has no {', '.join(missing)}; is it the file of the release?")
    paths, views = study["ImagePath"], study["ImageViewPosition"] or []
    if not isinstance(paths, list) or not isinstance(views, list):
        raise DataError(f"{where}: ImagePath and ImageViewPosition are no lists; is it the file of the release?")
    report = _report(study)
    facts = patient_facts(sex=_text(study.get("PatientSex")), age=_text(study.get("PatientAge")))
    for place, written in enumerate(paths):
        patient, image = _ids(written, where)
        view = _text(views[place]) if place < len(views) else ""
        yield (
            view_group(view),
            Entry(
                patient=patient,
                study=key,
                image=image,
                where=f"{where} image {place + 1}",
                split=split,
                payload={
                    "path": f"{IMAGES}/{_below(written, where)}",
                    "report": report,
                },
                order=_day(study.get("StudyDate")),
                view=view_name(view),
                extra=facts,
            ),
        )


def _ids(written: Any, where: str) -> tuple[str, str]:
    """Return patient and image of `../deid_png/PATIENT/ACCESSION/studies/STUDY/series/SERIES/instances/IMAGE.png`."""
    parts = _below(written, where).split("/")
    if len(parts) < 8 or parts[2] != "studies":
        raise DataError(
            f"{where}: an ImagePath is not PATIENT/ACCESSION/studies/STUDY/series/SERIES/instances/IMAGE.png"
        )
    return parts[0], parts[-1].removesuffix(".png")


def _below(written: Any, where: str) -> str:
    """Return what stands behind deid_png/ in a path that is relative to the metadata."""
    before, folder, below = str(written).partition(f"{IMAGES}/")
    if not folder or before.strip("./") or ".." in below.split("/"):
        raise DataError(f"{where}: an ImagePath does not begin with ../{IMAGES}/; is it the file of the release?")
    return below


def _report(study: Mapping[str, Any]) -> str:
    texts = {name: _text(study[name]) for name in SECTIONS}
    return "\n\n".join(f"{name.upper()}: {text}" for name, text in texts.items() if text)


def _text(value: Any) -> str:
    """Return a field's text; empty for null, NaN and the word None."""
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("none", "nan") else text


def _day(value: Any) -> float | None:
    text = _text(value).removesuffix(".0")
    return float(text) if text.isdigit() else None


def _metadata_folder(root: Path) -> Path:
    wanted = [METADATA.format(name) for name in SPLITS]
    for name in FOLDERS:
        folder = root / name
        found = [file for file in wanted if (folder / file).is_file()]
        if found and len(found) < len(wanted):
            raise DataError(
                f"{folder} has no {', '.join(sorted(set(wanted) - set(found)))}: download the metadata whole"
            )
        if found:
            return folder
    raise DataError(
        f"--images {root} has no {wanted[0]} in {' or '.join(FOLDERS[:2])}: download the folder metadata of the release too"
    )


def _studies(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except ValueError as error:
        raise DataError(f"{path} is no whole JSON ({error}): download it again") from error
    if not isinstance(found, dict) or not found:
        raise DataError(
            f"{path}: expected an object with a study per key; take the file with _view_position in its name"
        )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack rexgradient`."""
    parser.add_argument("--images", type=Path, required=True, help="folder with deid_png/ and download/metadata/")
    add_views(parser)


def from_arguments(arguments: argparse.Namespace) -> RexGradientSource:
    """Build the source from parsed options. Raises DataError."""
    return RexGradientSource(arguments.images, parse_views(arguments.views), decode_at_least=arguments.short_side)
