"""A source -> WebDataset tar shards with manifest, index and patient-level splits. Same input and options, same bytes."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data import packed
from msvl.data.identity import keyed_hash
from msvl.data.pack_record import Job, PackedSample, PackOptions, pack_record, start_worker
from msvl.data.study import Source


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
    except BrokenProcessPool as error:
        raise DataError(
            f"a packing process was killed (out of memory?), nothing was written; repeat with --workers {max(1, workers // 2)}"
        ) from error
    except OSError as error:  # records report their own faults as DataError
        raise DataError(
            f"{out} cannot be written ({error.strerror or error}): free space or choose another --out"
        ) from error
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
        raise DataError(
            f"{out} exists and is not a whole packed set ({error}); remove it or choose another --out"
        ) from error
    if (manifest["source"], manifest["options"]) != (_json_value(_settings(source)), _json_value(options.recorded())):
        raise DataError(
            f"{out} was packed from another source or with other options; remove it or choose another --out"
        )
    return manifest


def _json_value(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _settings(source: Source) -> dict[str, Any]:
    return {"name": source.name, **source.settings()}


def _plan(source: Source, options: PackOptions) -> list[Job]:
    """List what to pack: in each split ordered by key, which mixes studies over shards."""
    secret = options.id_key or source.name
    jobs: dict[str, Job] = {}
    splits: dict[str, str] = {}
    for entry in source.entries():
        patient = keyed_hash(f"patient/{entry.patient}", secret)
        split = entry.split or _split_of(patient, options)
        if splits.setdefault(patient, split) != split:
            raise DataError(
                f"{entry.where}: its patient is in both {splits[patient]} and {split}: mend the split column"
            )
        key = keyed_hash(f"image/{entry.study}/{entry.image}", secret)
        if key in jobs:
            raise DataError(
                f"{entry.where}: the same study and image as {jobs[key].entry.where}: remove one of the two"
            )
        jobs[key] = Job(entry, key, split, patient, keyed_hash(f"study/{entry.patient}/{entry.study}", secret))
    if not jobs:
        raise DataError(f"the source {source.name} has no records")
    return sorted(jobs.values(), key=lambda job: (packed.SPLITS.index(job.split), job.key))


def _split_of(patient: str, options: PackOptions) -> str:
    place = int(patient, 16) / 16**16
    if place < options.test_share:
        return "test"
    return "val" if place < options.test_share + options.val_share else "train"


def _write_shards(
    source: Source, jobs: list[Job], partial: Path, options: PackOptions, *, workers: int, progress: bool
) -> _Tally:
    tally = _Tally()
    # spawn: forked children of a process that has threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (source, options)) as pool:
        results = zip(jobs, pool.map(pack_record, jobs, chunksize=8), strict=True)
        pause = 0.1 if sys.stderr.isatty() else 10.0  # a log is no terminal
        bar = tqdm(
            results,
            total=len(jobs),
            unit="image",
            desc=f"packing {source.name}",
            disable=not progress,
            mininterval=pause,
        )
        for split in packed.SPLITS:
            (partial / split).mkdir(parents=True)
            _write_split(_of_split(bar, split, sum(job.split == split for job in jobs)), split, partial, tally, options)
    return tally


def _of_split(results: Any, split: str, count: int) -> Iterator[tuple[Job, PackedSample | str]]:
    """Take the next `count` results: jobs are ordered by split."""
    iterator = iter(results)
    for _ in range(count):
        job, result = next(iterator)
        assert job.split == split, (job.split, split)
        yield job, result


def _write_split(
    results: Iterator[tuple[Job, PackedSample | str]], split: str, partial: Path, tally: _Tally, options: PackOptions
) -> None:
    held: list[tuple[Job, PackedSample]] = []
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


def _count(job: Job, sample: PackedSample, tally: _Tally) -> None:
    tally.patients[job.split].add(job.patient)
    tally.studies[job.split].add(job.study)
    if job.split == "train":
        tally.pixels += (sample.pixel_sum, sample.pixel_square_sum, sample.pixels)
        tally.texts.append(json.loads(sample.members["json"])["report"])


def _write_shard(
    samples: list[tuple[Job, PackedSample]], split: str, number: int, partial: Path, tally: _Tally
) -> None:
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


def _check_drops(jobs: list[Job], tally: _Tally, options: PackOptions) -> None:
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
