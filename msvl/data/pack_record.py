"""One record -> the members of a sample. Runs in worker processes, so it imports little."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.identity import image_hash, text_hash
from msvl.data.images import encode_jpeg, encode_png, shrink, to_eight_bit
from msvl.data.label_reports import report_from_labels
from msvl.data.pack_options import PackOptions
from msvl.data.partial import Dropped
from msvl.data.reports import repeated_headings
from msvl.data.sample import report_fields, sections_of, usable_sentences
from msvl.data.study import Entry, Record, Source
from msvl.data.worker_pool import end_with_parent


@dataclass(frozen=True)
class Job:
    """An entry with its split and the names that replace its source ids."""

    entry: Entry
    key: str
    split: str
    patient: str
    study: str
    listed_before: bool = False
    """Whether the source has listed the same study and image already: the first is kept."""
    study_rank: int | None = None
    """Of the patient's studies in time, from 0, where it is known."""
    prior: str | None = None
    """The patient's study before this one, likewise."""


@dataclass(frozen=True)
class PackedSample:
    """Members of a sample as bytes, and sums for the pixel statistics."""

    members: dict[str, bytes]
    """Extension -> content."""
    text_hash: str
    pixels: tuple[int, int, int]
    """Sum of grey levels (8 bits), sum of their squares, number of pixels."""
    repeats: bool = False
    """Whether findings or impression stand in the report more than once, of which the last is read."""

    @property
    def bytes(self) -> int:
        """Sum of the members."""
        return sum(map(len, self.members.values()))


_WORKER: dict[str, Any] = {}
"""Set once per worker process by its initializer: the source and the options, too large to send with every record."""


def start_worker(source: Source, options: PackOptions, parent: int) -> None:
    """Keep in this process what every record needs; it ends with its parent."""
    end_with_parent(parent)
    cv2.setNumThreads(1)
    _WORKER.update(source=source, options=options)


def pack_chunk(jobs: Sequence[Job]) -> list[PackedSample | Dropped]:
    """Pack a few records, in a process that `start_worker` has prepared."""
    return [pack_record(job, _WORKER["source"], _WORKER["options"]) for job in jobs]


def pack_record(job: Job, source: Source, options: PackOptions) -> PackedSample | Dropped:
    """Return the members of a sample, or why the record is dropped."""
    try:
        if job.listed_before:
            raise DataError(f"{job.entry.where}: the same study and image is listed before")
        return _sample(job, source.record(job.entry), source, options)
    except DataError as error:
        return Dropped(job.key, job.study, job.entry.where, _without_ids(str(error), job.entry))


def _without_ids(reason: str, entry: Entry) -> str:
    """Take place, source ids and paths out of a reason: it goes into the packed set."""
    reason = reason.removeprefix(f"{entry.where}: ")
    names = {entry.image, PurePosixPath(entry.image).name, entry.study, entry.patient}
    for name in sorted((name for name in names if len(name) > 2), key=len, reverse=True):
        reason = reason.replace(name, "...")
    return re.sub(r"(?<![\w.])/[^\s:;,()]+", "...", reason)


def _sample(job: Job, record: Record, source: Source, options: PackOptions) -> PackedSample:
    if record.image.ndim != 2 or min(record.image.shape) < 16:
        raise DataError(
            f"{job.entry.where}: the image has shape {record.image.shape}; grey of at least 16 px is needed"
        )
    deep = options.depth == 16 and record.image.dtype != np.uint8
    image = shrink(record.image if deep else to_eight_bit(record.image), options.short_side)
    height, width = record.full_size or record.image.shape
    record = _with_report(job, record, source, options)
    meta = _meta(job, record, source.name, image, (image.shape[1] / width, image.shape[0] / height))
    data = encode_jpeg(image, options.quality) if options.image_format == "jpg" else encode_png(image)
    members = {options.image_format: data, "json": json.dumps(meta, sort_keys=True).encode()}
    if record.masks:
        members["mask.png"] = _mask_png(record, source.mask_names, image.shape)
    repeats = bool(record.report) and repeated_headings(sections_of(meta))
    return PackedSample(members, meta["text_hash"], pixel_sums(to_eight_bit(image)), repeats)


def _with_report(job: Job, record: Record, source: Source, options: PackOptions) -> Record:
    """Return the record with the report that is packed: its own, none, or sentences made from its labels."""
    if source.has_reports:
        if not record.report.strip():
            raise DataError(f"{job.entry.where}: the report is empty")
        return record
    if not options.reports_from_labels:
        return replace(record, report="")
    report = report_from_labels(record.labels, job.key)
    if not report:
        raise DataError(f"{job.entry.where}: no label says anything, so no report can be made from them")
    return replace(record, report=report)


def pixel_sums(grey: np.ndarray) -> tuple[int, int, int]:
    """Return sum, sum of squares and number of grey levels."""
    # A twelfth of a histogram's time. The second is the square of a root, off by far less than a half.
    return int(cv2.sumElems(grey)[0]), round(cv2.norm(grey, cv2.NORM_L2SQR)), grey.size


def _meta(job: Job, record: Record, source: str, image: np.ndarray, scale: tuple[float, float]) -> dict[str, Any]:
    timed = {"study_rank": job.study_rank, "prior": job.prior} if job.study_rank is not None else {}
    meta = {
        "patient": job.patient,
        "study": job.study,
        "view": record.view,
        "source": source,
        **report_fields(record.report),
        "labels": record.labels,
        "boxes": [
            {"phrase": box.phrase, "finding": box.finding, "x": round(box.x * scale[0], 2), "y": round(box.y * scale[1], 2),
             "w": round(box.w * scale[0], 2), "h": round(box.h * scale[1], 2)}
            for box in record.boxes
        ],
        "image_hash": image_hash(image),
        "extra": record.extra | timed,
    }  # fmt: skip
    if not record.report:
        return meta | {"text_hash": ""}
    try:
        usable = usable_sentences(meta, ReportConfig())
    except ValueError as error:
        raise DataError(f"{job.entry.where}: {error}") from error
    return meta | {"text_hash": text_hash(" ".join(usable))}


def _mask_png(record: Record, names: tuple[str, ...], shape: tuple[int, int]) -> bytes:
    drawn = [(bit, record.masks[name]) for bit, name in enumerate(names) if name in record.masks]
    drawn = [(bit, mask) for bit, mask in drawn if mask.any()]
    if not drawn:
        return _empty_mask(shape, deep=len(names) > 8)
    bits = np.zeros(shape, dtype=np.uint16 if len(names) > 8 else np.uint8)
    for bit, mask in drawn:
        bits |= np.left_shift(_resized_mask(mask, shape), bit, dtype=bits.dtype)
    return encode_png(bits)


def _resized_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    pixels = mask.view(np.uint8)
    if pixels.flags.c_contiguous:
        return cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_NEAREST)
    # Masks that were drawn column by column lie on their side, and stay so while they are large.
    return np.ascontiguousarray(cv2.resize(pixels.T, shape, interpolation=cv2.INTER_NEAREST).T)


@lru_cache(maxsize=64)
def _empty_mask(shape: tuple[int, int], *, deep: bool) -> bytes:
    """Return the mask of an image without findings, as most are: encoding it takes as long as a JPEG of the image."""
    return encode_png(np.zeros(shape, np.uint16 if deep else np.uint8))
