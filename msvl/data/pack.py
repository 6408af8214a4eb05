"""A source -> WebDataset tar shards with manifest, index and patient-level splits. Same input and options, same bytes."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset
from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data import packed
from msvl.data.config import ReportConfig
from msvl.data.identity import image_hash, keyed_hash, text_hash
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

    def recorded(self) -> dict[str, Any]:
        """Return the options as the manifest keeps them: the secret only as a hash."""
        return self.__dict__ | {"id_key": hashlib.sha256(self.id_key.encode()).hexdigest()[:16] if self.id_key else ""}


@dataclass(frozen=True)
class _Job:
    entry: Entry
    key: str
    split: str
    patient: str
    study: str


@dataclass(frozen=True)
class _Sample:
    members: dict[str, bytes]
    pixel_sum: float
    pixel_square_sum: float
    pixels: int


@dataclass
class _Tally:
    rows: dict[str, list[tuple[str, int, list[int], list[int]]]] = field(
        default_factory=lambda: {split: [] for split in packed.SPLITS}
    )
    shards: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    patients: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in packed.SPLITS})
    studies: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in packed.SPLITS})
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(3))
    texts: list[str] = field(default_factory=list)


def pack(source: Source, out: Path, options: PackOptions, *, workers: int, progress: bool = True) -> dict[str, Any]:
    """Pack a source into the folder `out`; return the manifest.

    Everything is written beside `out` and renamed at the end, so `out` is whole or not there.

    Raises DataError when `out` holds something else, when too many records are bad or a split would be lost.
    """
    manifest = _already_packed(source, out, options)
    if manifest is not None:
        return manifest
    jobs = _plan(source, options)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tally = _write_shards(source, jobs, partial, options, workers=workers, progress=progress)
        _check_drops(jobs, tally, options)
        manifest = _write_rest(source, partial, tally, options)
        out.parent.mkdir(parents=True, exist_ok=True)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _already_packed(source: Source, out: Path, options: PackOptions) -> dict[str, Any] | None:
    if not out.exists():
        return None
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
        return None
    try:
        manifest = packed.PackedSet.open(out).manifest
    except DataError as error:
        raise DataError(f"{out} exists and is not a whole packed set ({error}); remove it or choose another --out") from error
    if (manifest["source"], manifest["options"]) != (_json_value(_settings(source)), _json_value(options.recorded())):
        raise DataError(f"{out} was packed from another source or with other options; remove it or choose another --out")
    return manifest


def _json_value(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _settings(source: Source) -> dict[str, Any]:
    return {"name": source.name, **source.settings()}


def _plan(source: Source, options: PackOptions) -> list[_Job]:
    """List what to pack: in each split ordered by key, which mixes studies over shards."""
    secret = options.id_key or source.name
    jobs: dict[str, _Job] = {}
    splits: dict[str, str] = {}
    for entry in source.entries():
        patient = keyed_hash(f"patient/{entry.patient}", secret)
        split = entry.split or _split_of(patient, options)
        if splits.setdefault(patient, split) != split:
            raise DataError(f"{entry.where}: its patient is in both {splits[patient]} and {split}: mend the split column")
        key = keyed_hash(f"image/{entry.study}/{entry.image}", secret)
        if key in jobs:
            raise DataError(f"{entry.where}: the same study and image as {jobs[key].entry.where}: remove one of the two")
        jobs[key] = _Job(entry, key, split, patient, keyed_hash(f"study/{entry.patient}/{entry.study}", secret))
    if not jobs:
        raise DataError(f"the source {source.name} has no records")
    return sorted(jobs.values(), key=lambda job: (packed.SPLITS.index(job.split), job.key))


def _split_of(patient: str, options: PackOptions) -> str:
    place = int(patient, 16) / 16**16
    if place < options.test_share:
        return "test"
    return "val" if place < options.test_share + options.val_share else "train"


# --- one record, in a worker process -----------------------------------------------------------------------------------

_WORKER: dict[str, Any] = {}
"""Set once per worker process by its initializer: the source and the options, too large to send with every record."""


def _start_worker(source: Source, options: PackOptions) -> None:
    cv2.setNumThreads(1)
    _WORKER.update(source=source, options=options)


def _pack_record(job: _Job) -> _Sample | str:
    """Return the members of a sample, or why the record is dropped."""
    source, options = _WORKER["source"], _WORKER["options"]
    try:
        record = source.record(job.entry)
        return _members(job, record, source, options)
    except DataError as error:
        return str(error)


def _members(job: _Job, record: Record, source: Source, options: PackOptions) -> _Sample:
    if record.image.ndim != 2 or min(record.image.shape) < 16:
        raise DataError(f"{job.entry.where}: the image has shape {record.image.shape}; grey of at least 16 px is needed")
    image = shrink(to_eight_bit(record.image), options.short_side)
    scale_y, scale_x = image.shape[0] / record.image.shape[0], image.shape[1] / record.image.shape[1]
    meta = _meta(job, record, source.name, image, (scale_x, scale_y))
    members = {"jpg": encode_jpeg(image), "json": json.dumps(meta, sort_keys=True).encode()}
    if record.masks:
        members["mask.png"] = _mask_png(record, source.mask_names, image.shape)
    grey = image.astype(np.float64) / 255
    return _Sample(members, grey.sum(), np.square(grey).sum(), grey.size)


def _meta(job: _Job, record: Record, source: str, image: np.ndarray, scale: tuple[float, float]) -> dict[str, Any]:
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


# --- shards, in the parent ---------------------------------------------------------------------------------------------


def _write_shards(
    source: Source, jobs: list[_Job], partial: Path, options: PackOptions, *, workers: int, progress: bool
) -> _Tally:
    tally = _Tally()
    # spawn: forked children of a process that has threads can hang
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_start_worker, initargs=(source, options)) as pool:
        results = zip(jobs, pool.imap(_pack_record, jobs, chunksize=8), strict=True)
        bar = tqdm(results, total=len(jobs), unit="image", desc=f"packing {source.name}", disable=not progress)
        for split in packed.SPLITS:
            (partial / split).mkdir(parents=True)
            _write_split(_of_split(bar, split, sum(job.split == split for job in jobs)), split, partial, tally, options)
    return tally


def _of_split(results: Any, split: str, count: int) -> Iterator[tuple[_Job, _Sample | str]]:
    """Take the next `count` results: jobs are ordered by split."""
    iterator = iter(results)
    for _ in range(count):
        job, result = next(iterator)
        assert job.split == split, (job.split, split)
        yield job, result


def _write_split(
    results: Iterator[tuple[_Job, _Sample | str]], split: str, partial: Path, tally: _Tally, options: PackOptions
) -> None:
    held: list[tuple[_Job, _Sample]] = []
    number = 0
    for job, result in results:
        if isinstance(result, str):
            tally.dropped.append((job.key, job.entry.where, result))
            continue
        held.append((job, result))
        _count(job, result, tally)
        if len(held) == options.shard_samples:
            _write_shard(held, split, number, partial, tally)
            held, number = [], number + 1
    if held:
        _write_shard(held, split, number, partial, tally)


def _count(job: _Job, sample: _Sample, tally: _Tally) -> None:
    tally.patients[job.split].add(job.patient)
    tally.studies[job.split].add(job.study)
    if job.split == "train":
        tally.pixels += (sample.pixel_sum, sample.pixel_square_sum, sample.pixels)
        tally.texts.append(json.loads(sample.members["json"])["report"])


def _write_shard(samples: list[tuple[_Job, _Sample]], split: str, number: int, partial: Path, tally: _Tally) -> None:
    path = partial / split / f"shard-{number:06d}.tar"
    # A fixed time makes the bytes a function of the input.
    with webdataset.TarWriter(str(path), encoder=False, mtime=0, user="msvl", group="msvl") as writer:
        for job, sample in samples:
            writer.write({"__key__": job.key, **sample.members})
    tally.rows[split] += index_shard(path, number)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    tally.shards.append(
        {"split": split, "file": path.name, "samples": len(samples), "bytes": path.stat().st_size, "sha256": digest}
    )


def index_shard(path: Path, number: int) -> list[tuple[str, int, list[int], list[int]]]:
    """Return (key, shard number, offsets, sizes) of every sample of a tar, in its order."""
    places: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            places.setdefault(key, {})[extension] = (member.offset_data, member.size)
    rows = []
    for key, members in places.items():
        found = [members.get(name, (-1, 0)) for name in packed.MEMBERS]
        rows.append((key, number, [offset for offset, _ in found], [size for _, size in found]))
    return rows


def _check_drops(jobs: list[_Job], tally: _Tally, options: PackOptions) -> None:
    kept = sum(len(rows) for rows in tally.rows.values())
    if kept and len(tally.dropped) <= options.max_dropped_share * len(jobs):
        return
    examples = "; ".join(reason for _, _, reason in tally.dropped[:3])
    raise DataError(
        f"{len(tally.dropped):,} of {len(jobs):,} records cannot be used (at most {options.max_dropped_share:.0%} may be, "
        f"--max-dropped): {examples}"
    )


def _write_rest(source: Source, partial: Path, tally: _Tally, options: PackOptions) -> dict[str, Any]:
    packed.write_index(partial, tally.rows)
    with open(partial / packed.DROPPED, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["key", "where", "reason"])
        writer.writerows(tally.dropped)
    if options.tokenizer_vocabulary:
        from msvl.data.tokenise import train_tokenizer  # imports torch, which packing itself does without

        train_tokenizer(tally.texts, options.tokenizer_vocabulary, partial / packed.TOKENIZER)
    if source.prompts:
        (partial / packed.PROMPTS).write_text(json.dumps(source.prompts, indent=1), encoding="utf-8")
    total, squares, pixels = tally.pixels if tally.pixels[2] else (0.5, 0.3125, 1.0)
    mean = total / pixels
    manifest = {
        "format": packed.FORMAT_VERSION,
        "name": source.name,
        "licence": source.licence,
        "shareable": source.shareable,
        "source": _settings(source),
        "options": options.recorded(),
        "counts": {
            split: {"samples": len(tally.rows[split]), "studies": len(tally.studies[split]),
                    "patients": len(tally.patients[split])}
            for split in packed.SPLITS
        },
        "dropped": dict(Counter(reason.partition(": ")[2] or reason for _, _, reason in tally.dropped)),
        "pixel_mean": round(mean, 6),
        "pixel_std": round(math.sqrt(max(squares / pixels - mean**2, 1e-6)), 6),
        "mask_bits": list(source.mask_names),
        "shards": tally.shards,
    }  # fmt: skip
    (partial / packed.MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest

