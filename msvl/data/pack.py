"""A source -> WebDataset tar shards with manifest, index and patient-level splits. Same input and options, same bytes.

Finished shards stay in `.NAME.partial` beside the result: the same command goes on from there after Ctrl-C, a kill or a
power cut.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data import set_folder
from msvl.data.listing_summary import summarise
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import Unit, plan, plan_digest
from msvl.data.pack_record import Job, PackedSample, pack_chunk, pack_record, start_worker
from msvl.data.packed import LABELS, NONE, OWN, PackedSet
from msvl.data.partial import Dropped, UnitRecord, load_units, open_partial, strip_partial
from msvl.data.seal import check_drops, seal
from msvl.data.study import Source
from msvl.data.unit_writer import write_unit
from msvl.data.worker_pool import WorkerPool, in_order

logger = logging.getLogger(__name__)
CHUNK = 8
"""Records that a process is handed at once."""


def pack(
    source: Source,
    out: Path,
    options: PackOptions,
    *,
    workers: int,
    progress: bool = True,
    command: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Pack a source into the folder `out`; return the manifest.

    Everything is written beside `out` and renamed at the end, so `out` is whole or not there.

    Args:
        source: What to pack.
        out: Folder to make.
        options: How.
        workers: Processes; any number gives the same bytes.
        progress: Whether to show a bar.
        command: What else an unfinished packing must agree with to be continued, such as where the source lies.

    Raises:
        DataError: `out` holds something else, too many records are bad, a process was killed or the disk is full.
    """
    recorded = {"source": source_settings(source), "options": options.recorded()}
    manifest = _already_packed(out, recorded)
    if manifest is not None:
        return manifest
    units = plan(source, options)
    header = {**pack_header(source, units, recorded), "command": command or {}}
    with write_errors(out, workers), open_partial(out, header) as partial:
        if not (partial / set_folder.MANIFEST).is_file():  # else it was killed between that and the end
            done = pack_units(
                source, units, partial, options, max_dropped_share=options.max_dropped_share, workers=workers,
                progress=progress,
            )  # fmt: skip
            seal(partial, header, done, workers=workers)
        manifest = json.loads((partial / set_folder.MANIFEST).read_bytes())
        strip_partial(partial)
        os.rename(partial, out)
    return manifest


def source_settings(source: Source) -> dict[str, Any]:
    """Return what made a source, as JSON keeps it."""
    return _json_value({"name": source.name, **source.settings()})


def pack_header(source: Source, units: Sequence[Unit], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a packing is: a set, a part or an unfinished one of an equal header fit together."""
    made = LABELS if recorded["options"]["reports_from_labels"] else NONE
    about = {
        "name": source.name,
        "id_space": source.id_space,
        "licence": source.licence,
        "shareable": source.shareable,
        "reports": OWN if source.has_reports else made,
        "mask_bits": list(source.mask_names),
        "prompts": source.prompts,
    }
    return _json_value({"set": about, **recorded, "plan": plan_digest(units)})


def pack_units(
    source: Source,
    units: Sequence[Unit],
    folder: Path,
    options: PackOptions,
    *,
    max_dropped_share: float | None,
    workers: int,
    progress: bool,
) -> list[UnitRecord]:
    """Pack the units that are not finished in `folder` yet; return all of them in their order.

    Raises DataError, and leaves nothing, as soon as more records are bad than `max_dropped_share` (None: any number) allows.
    """
    finished = load_units(folder)
    todo = [unit for unit in units if (unit.split, unit.number) not in finished]
    jobs = [job for unit in todo for job in unit.jobs]
    total = sum(len(unit.jobs) for unit in units)
    if progress:
        sys.stderr.write(summarise(job.entry for unit in units for job in unit.jobs))
    if finished and progress:
        sys.stderr.write(f"{len(finished):,} of {len(units):,} shards are there already\n")
    pause = 0.1 if sys.stderr.isatty() else 10.0  # a log is no terminal
    with (
        _results(source, jobs, options, workers) as results,
        tqdm(total=total, initial=total - len(jobs), unit="image", desc=f"packing {source.name}", disable=not progress,
             mininterval=pause) as bar,
    ):  # fmt: skip
        repeats = Repeats()
        counted = _counted(results, bar, repeats)
        for unit in todo:
            record = write_unit(folder, unit, islice(counted, len(unit.jobs)), int(options.shard_gb * 1e9))
            finished[unit.split, unit.number] = record
            record.save(folder)
            if max_dropped_share is not None:
                _check_drops_so_far(folder, finished, total, max_dropped_share)
    repeats.tell(source.name)
    return [finished[unit.split, unit.number] for unit in units]


@contextmanager
def _results(
    source: Source, jobs: Sequence[Job], options: PackOptions, workers: int
) -> Iterator[Iterator[PackedSample | Dropped]]:
    """Give the results in the order of the jobs: one worker is this process."""
    if workers == 1:
        cv2.setNumThreads(1)
        yield (pack_record(job, source, options) for job in jobs)
        return
    with WorkerPool(workers, start_worker, (source, options, os.getpid())) as pool:
        try:
            yield _ordered(pool, jobs, workers)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _ordered(pool: WorkerPool, jobs: Sequence[Job], workers: int) -> Iterator[PackedSample | Dropped]:
    """Yield results with a bounded number of them in memory."""
    chunks = (jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK))
    for results in in_order(pool, pack_chunk, chunks, ahead=4 * workers):
        yield from results


@dataclass
class Repeats:
    """Counts the reports that have findings or impression twice."""

    count: int = 0

    def add(self, result: PackedSample | Dropped) -> None:
        """Count one result."""
        self.count += isinstance(result, PackedSample) and result.repeats

    def tell(self, source: str) -> None:
        """Log the number, where there are any."""
        if self.count:
            logger.warning(
                "%s: %d reports have FINDINGS or IMPRESSION more than once; the last is read, and all stay in the text",
                source, self.count,
            )  # fmt: skip


def _counted(
    results: Iterable[PackedSample | Dropped], bar: tqdm, repeats: Repeats
) -> Iterator[PackedSample | Dropped]:
    for result in results:
        repeats.add(result)
        bar.update()  # before the last one is taken: nobody comes back for more
        yield result


def _check_drops_so_far(
    folder: Path, finished: Mapping[tuple[str, int], UnitRecord], total: int, max_share: float
) -> None:
    try:
        check_drops(list(finished.values()), total, max_share)
    except DataError:
        # The source will be mended or named rightly: what was left out must not be kept.
        shutil.rmtree(folder)
        raise


def _already_packed(out: Path, recorded: Mapping[str, Any]) -> dict[str, Any] | None:
    if not out.exists():
        return None
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
        return None
    try:
        manifest = PackedSet.open(out).manifest
    except DataError as error:
        raise DataError(
            f"{out} exists and is not a whole packed set ({error}); remove it or choose another --out"
        ) from error
    if {name: manifest[name] for name in recorded} != recorded:
        raise DataError(
            f"{out} was packed from another source or with other options; remove it or choose another --out"
        )
    return manifest


@contextmanager
def write_errors(out: Path, workers: int) -> Iterator[None]:
    """Turn a killed process and a full disk into DataError with the cure."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BrokenProcessPool as error:
        raise DataError(
            f"a packing process was killed (out of memory?); finished shards are kept: repeat with --workers "
            f"{max(1, workers // 2)}"
        ) from error
    except OSError as error:  # records report their own faults as DataError
        raise DataError(
            f"{out} cannot be written ({error.strerror or error}): free space and repeat, or choose another --out"
        ) from error


def _json_value(value: Any) -> Any:
    return json.loads(json.dumps(value))
