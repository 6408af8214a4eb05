"""One record -> the members of a sample. Runs in worker processes, so it imports little."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.identity import image_hash, text_hash
from msvl.data.images import encode_jpeg, shrink, to_eight_bit
from msvl.data.reports import split_sections, split_sentences
from msvl.data.sample import usable_sentences
from msvl.data.study import Entry, Record, Source


@dataclass(frozen=True)
class PackOptions:
    """How a source is packed."""

    short_side: int = 512
    """Pixels; larger images are shrunk to it."""
    shard_samples: int = 5000
    """Samples per shard."""
    val_share: float = 0.1
    """Share of patients in val, for sources without splits of their own."""
    test_share: float = 0.1
    """Share of patients in test, likewise."""
    id_key: str = ""
    """Secret of the keyed hashes that replace source ids; the source's name when empty."""
    max_dropped_share: float = 0.5
    """Share of dropped records above which packing fails."""
    tokenizer_vocabulary: int = 0
    """Train a WordPiece tokenizer of this size on the training reports; 0 trains none."""

    def __post_init__(self) -> None:
        """Raise DataError naming the option that is out of its range."""
        if self.short_side < 16:
            raise DataError(f"--short-side {self.short_side}: give 16 pixels or more")
        if self.shard_samples < 1:
            raise DataError(f"--shard-samples {self.shard_samples}: give 1 or more")
        if min(self.val_share, self.test_share) < 0 or self.val_share + self.test_share > 1:
            raise DataError(
                f"--val-share {self.val_share:g} and --test-share {self.test_share:g}: give shares from 0 on whose sum is "
                "at most 1"
            )

    def recorded(self) -> dict[str, Any]:
        """Return the options as the manifest keeps them: the secret only as a hash."""
        return self.__dict__ | {"id_key": hashlib.sha256(self.id_key.encode()).hexdigest()[:16] if self.id_key else ""}


@dataclass(frozen=True)
class Job:
    """An entry with its split and the names that replace its source ids."""

    entry: Entry
    key: str
    split: str
    patient: str
    study: str


@dataclass(frozen=True)
class PackedSample:
    """Members of a sample as bytes, and sums for the pixel statistics."""

    members: dict[str, bytes]
    """Extension -> content."""
    text_hash: str
    pixel_sum: float
    pixel_square_sum: float
    pixels: int


_WORKER: dict[str, Any] = {}
"""Set once per worker process by its initializer: the source and the options, too large to send with every record."""


def start_worker(source: Source, options: PackOptions) -> None:
    """Keep in this process what every record needs."""
    cv2.setNumThreads(1)
    _WORKER.update(source=source, options=options)


def pack_record(job: Job) -> PackedSample | str:
    """Return the members of a sample, or why the record is dropped."""
    source, options = _WORKER["source"], _WORKER["options"]
    try:
        record = source.record(job.entry)
        return _members(job, record, source, options)
    except DataError as error:
        return str(error)


def _members(job: Job, record: Record, source: Source, options: PackOptions) -> PackedSample:
    if record.image.ndim != 2 or min(record.image.shape) < 16:
        raise DataError(
            f"{job.entry.where}: the image has shape {record.image.shape}; grey of at least 16 px is needed"
        )
    image = shrink(to_eight_bit(record.image), options.short_side)
    scale_y, scale_x = image.shape[0] / record.image.shape[0], image.shape[1] / record.image.shape[1]
    meta = _meta(job, record, source.name, image, (scale_x, scale_y))
    members = {"jpg": encode_jpeg(image), "json": json.dumps(meta, sort_keys=True).encode()}
    if record.masks:
        members["mask.png"] = _mask_png(record, source.mask_names, image.shape)
    grey = image.astype(np.float64) / 255
    return PackedSample(members, meta["text_hash"], grey.sum(), np.square(grey).sum(), grey.size)


def _meta(job: Job, record: Record, source: str, image: np.ndarray, scale: tuple[float, float]) -> dict[str, Any]:
    if not record.report.strip():
        raise DataError(f"{job.entry.where}: the report is empty")
    sections = split_sections(record.report)
    sentences = [
        {"section": item.section, "start": item.start, "end": item.end}
        for section in sections
        for item in split_sentences(record.report, section)
    ]
    meta = {
        "patient": job.patient,
        "study": job.study,
        "view": record.view,
        "source": source,
        "report": record.report,
        "sections": [{"name": item.name, "start": item.start, "end": item.end} for item in sections],
        "sentences": sentences,
        "labels": record.labels,
        "boxes": [
            {"phrase": box.phrase, "finding": box.finding, "x": round(box.x * scale[0], 2), "y": round(box.y * scale[1], 2),
             "w": round(box.w * scale[0], 2), "h": round(box.h * scale[1], 2)}
            for box in record.boxes
        ],
        "image_hash": image_hash(image),
        "extra": record.extra,
    }  # fmt: skip
    try:
        usable = usable_sentences(meta, ReportConfig())
    except ValueError as error:
        raise DataError(f"{job.entry.where}: {error}") from error
    return meta | {"text_hash": text_hash(" ".join(usable))}


def _mask_png(record: Record, names: tuple[str, ...], shape: tuple[int, ...]) -> bytes:
    bits = np.zeros(shape, dtype=np.uint16)
    for bit, name in enumerate(names):
        if name not in record.masks:
            continue
        mask = cv2.resize(record.masks[name].astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
        bits |= mask.astype(np.uint16) << bit
    _, data = cv2.imencode(".png", bits if len(names) > 8 else bits.astype(np.uint8))
    return data.tobytes()
