"""A source -> WebDataset tar shards with manifest, index and patient-level splits. Same input and options, same bytes."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data import packed, set_folder
from msvl.data.index import study_starts, write_records
from msvl.data.pack_plan import Unit, plan
from msvl.data.pack_record import Job, PackedSample, PackOptions, pack_record, start_worker
from msvl.data.set_folder import file_digest
from msvl.data.shard_writer import ShardWriter
from msvl.data.study import Source


@dataclass
class _Tally:
    records: dict[str, list[np.ndarray]] = field(default_factory=lambda: {split: [] for split in packed.SPLITS})
    """Index records of each split, by shard."""
    shards: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
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
    units = plan(source, options)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tally = _write_shards(source, units, partial, options, workers=workers, progress=progress)
        _check_drops(sum(len(unit.jobs) for unit in units), tally, options)
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


def _write_shards(
    source: Source, units: list[Unit], partial: Path, options: PackOptions, *, workers: int, progress: bool
) -> _Tally:
    tally = _Tally()
    jobs = [job for unit in units for job in unit.jobs]
    # spawn: forked children of a process that has threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (source, options)) as pool:
        pause = 0.1 if sys.stderr.isatty() else 10.0  # a log is no terminal
        results = iter(
            tqdm(
                pool.map(pack_record, jobs, chunksize=8),
                total=len(jobs),
                unit="image",
                desc=f"packing {source.name}",
                disable=not progress,
                mininterval=pause,
            )
        )
        for split in packed.SPLITS:
            (partial / split).mkdir(parents=True)
        for unit in units:
            _write_unit(unit, (next(results) for _ in unit.jobs), partial, tally)
    return tally


def _write_unit(unit: Unit, results: Iterator[PackedSample | str], partial: Path, tally: _Tally) -> None:
    kept = []
    for job, result in zip(unit.jobs, results, strict=True):
        if isinstance(result, str):
            tally.dropped.append((job.key, job.entry.where, result))
            continue
        kept.append((job, result))
        if job.split == "train":
            tally.pixels += (result.pixel_sum, result.pixel_square_sum, result.pixels)
            tally.texts.append(json.loads(result.members["json"])["report"])
    if kept:
        _write_shard(kept, unit, partial, tally)


def _write_shard(samples: list[tuple[Job, PackedSample]], unit: Unit, partial: Path, tally: _Tally) -> None:
    writer = ShardWriter(partial / unit.split / f"shard-{unit.number:06d}.tar")
    for job, sample in samples:
        writer.add(job, sample)
    records = writer.close()
    records["shard"] = len(tally.records[unit.split])
    tally.records[unit.split].append(records)
    tally.shards.append(
        {
            "split": unit.split,
            "file": f"{unit.split}/{writer.path.name}",
            "samples": len(records),
            "studies": len(study_starts(records["study"])),
            "bytes": writer.path.stat().st_size,
            "sha256": file_digest(writer.path),
        }
    )


def _check_drops(jobs: int, tally: _Tally, options: PackOptions) -> None:
    kept = sum(shard["samples"] for shard in tally.shards)
    if kept and len(tally.dropped) <= options.max_dropped_share * jobs:
        return
    examples = "; ".join(reason for _, _, reason in tally.dropped[:3])
    raise DataError(
        f"{len(tally.dropped):,} of {jobs:,} records cannot be used (at most {options.max_dropped_share:.0%} may be, "
        f"--max-dropped): {examples}"
    )


def _write_rest(source: Source, partial: Path, tally: _Tally, options: PackOptions) -> dict[str, Any]:
    (partial / set_folder.INDEX).mkdir()
    for split, parts in tally.records.items():
        write_records(partial / set_folder.index_file(split), parts)
    with open(partial / set_folder.DROPPED, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["key", "where", "reason"])
        writer.writerows(tally.dropped)
    if options.tokenizer_vocabulary:
        from msvl.data.tokenise import train_tokenizer  # imports torch, which packing itself does without

        train_tokenizer(tally.texts, options.tokenizer_vocabulary, partial / set_folder.TOKENIZER)
    if source.prompts:
        (partial / set_folder.PROMPTS).write_text(json.dumps(source.prompts, indent=1), encoding="utf-8")
    total, squares, pixels = tally.pixels if tally.pixels[2] else (0.5, 0.3125, 1.0)
    mean = total / pixels
    manifest = {
        "format": set_folder.FORMAT_VERSION,
        "name": source.name,
        "licence": source.licence,
        "shareable": source.shareable,
        "source": _settings(source),
        "options": options.recorded(),
        "counts": {split: _counts(parts) for split, parts in tally.records.items()},
        "dropped": dict(Counter(reason.partition(": ")[2] or reason for _, _, reason in tally.dropped)),
        "pixel_mean": round(mean, 6),
        "pixel_std": round(math.sqrt(max(squares / pixels - mean**2, 1e-6)), 6),
        "mask_bits": list(source.mask_names),
        "shards": tally.shards,
        "files": set_folder.describe_files(partial, _small_files(partial)),
    }
    (partial / set_folder.MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def _counts(parts: list[np.ndarray]) -> dict[str, int]:
    return {
        "samples": sum(map(len, parts)),
        "studies": sum(len(study_starts(part["study"])) for part in parts),
        "patients": len(np.unique(np.concatenate([part["patient"] for part in parts]))) if parts else 0,
    }


def _small_files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".tar"
    )
