"""What a packing will take, from a sample of records packed in memory."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import Unit
from msvl.data.pack_record import PackedSample, pack_record
from msvl.data.packed import SPLITS
from msvl.data.shard_writer import BLOCK
from msvl.data.study import Source

SAMPLE, SECONDS, SEED = 200, 20.0, 0
"""At most so many records, for at most so long; the seed of their choice."""


@dataclass(frozen=True)
class Estimate:
    """Means over the sample, scaled to all records."""

    records: dict[str, int]
    """Split -> records."""
    sampled: int
    kept_share: float
    seconds: float
    """Of packing with the asked number of processes."""
    seconds_error: float
    """Standard error of that, from the spread of the sample."""
    bytes: float
    bytes_error: float
    shards: int

    def render(self) -> str:
        """Return it as text."""
        counts = ", ".join(f"{split} {count:,}" for split, count in self.records.items())
        return (
            f"records   {sum(self.records.values()):,} ({counts})\n"
            f"sampled   {self.sampled:,}, of which {self.kept_share:.0%} can be used\n"
            f"time      {_duration(self.seconds)} (standard error {_duration(self.seconds_error)})\n"
            f"bytes     {self.bytes / 1e9:.3g} GB (standard error {self.bytes_error / 1e9:.2g} GB)\n"
            f"shards    about {self.shards:,}\n"
        )


def estimate(source: Source, units: Sequence[Unit], options: PackOptions, *, workers: int) -> Estimate:
    """Pack a seeded sample of records in this process and write nothing."""
    cv2.setNumThreads(1)
    jobs = [job for unit in units for job in unit.jobs]
    chosen = random.Random(SEED).sample(jobs, min(SAMPLE, len(jobs)))
    seconds: list[float] = []
    sizes: list[float] = []
    began = time.perf_counter()
    for job in chosen:
        start = time.perf_counter()
        result = pack_record(job, source, options)
        seconds.append(time.perf_counter() - start)
        sizes.append(_tar_bytes(result) if isinstance(result, PackedSample) else 0.0)
        if start - began > SECONDS:
            break
    # The first record pays for what is loaded once.
    steady = seconds[1:] or seconds
    total = len(jobs)
    mean_bytes = float(np.mean(sizes))
    per_unit = max(1, math.ceil(mean_bytes * max(len(unit.jobs) for unit in units) / (options.shard_gb * 1e9)))
    return Estimate(
        records={split: sum(len(unit.jobs) for unit in units if unit.split == split) for split in SPLITS},
        sampled=len(sizes),
        kept_share=float(np.mean([size > 0 for size in sizes])),
        seconds=total * float(np.mean(steady)) / workers,
        seconds_error=total * _standard_error(steady) / workers,
        bytes=total * mean_bytes,
        bytes_error=total * _standard_error(sizes),
        shards=len(units) * per_unit,
    )


def _tar_bytes(sample: PackedSample) -> float:
    return sum(BLOCK + math.ceil(len(data) / BLOCK) * BLOCK for data in sample.members.values())


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
