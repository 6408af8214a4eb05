"""The stream past this machine: 10,000 shards, 100 million samples, 512 ranks, by simulation with the real order code.

    python benchmarks/data/order_at_scale.py        four minutes; CSV into benchmarks/results/

The index is a file of 8.4 GB, sparse on disk, whose places are samples (`data.images=all`). Samples have 50 kB (512 px JPEG, see
`../shared/guides/stream-baselines.md`), shards 500 MB, blocks of the node's cache 16 MB, 8 ranks a node share 100 GB. A rank
reads its places in the order of its steps; a request is a block that is not in the cache.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.measuring import machine, write_csv  # noqa: E402
from msvl.data.index import Shard, SplitIndex, record_type  # noqa: E402
from msvl.data.order import rank_positions  # noqa: E402
from msvl.data.places import Places  # noqa: E402
from msvl.data.plan import Plan  # noqa: E402
from msvl.data.planned_steps import PlannedSteps, Share  # noqa: E402
from msvl.data.storage import open_location  # noqa: E402

SHARDS, SHARD_SAMPLES, SAMPLE_BYTES, BLOCK, CACHE = 10_000, 10_000, 50_000, 16 << 20, 100 * 10**9 // 8
GLOBAL_BATCH, WORLD = 8192, 512


def make_index(folder: Path) -> SplitIndex:
    """Write a sparse index file: records of zeros, which are mapped and touched as real ones are."""
    file = folder / "train.npy"
    count = SHARDS * SHARD_SAMPLES
    with open(file, "wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(record_type()), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + count * record_type().itemsize)
    shards = [Shard(f"train/{n:06d}.tar", SHARD_SAMPLES, SHARD_SAMPLES, 500 * 10**6, "") for n in range(SHARDS)]
    return SplitIndex("train", open_location(folder), shards, file)


def status(key: str) -> float:
    """Return a size of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":"))


def make_plan(index: SplitIndex, lanes: int) -> Plan:
    """Return the plan of the whole set."""
    return Plan([Places(index, "all", 0)], [1.0], seed=0, lanes=lanes, window=4096)


def rank_epoch(plan: Plan, rank: int, steps: int) -> dict[str, float]:
    """Read a rank's epoch through an index and a block cache; return what it cost."""
    memory = status("RssAnon"), status("RssFile")
    cache: OrderedDict[tuple[int, int], None] = OrderedDict()
    blocks = requests = places = 0
    planning = 0.0
    planned = PlannedSteps(plan, Share(GLOBAL_BATCH, rank, WORLD), stride=1)
    peak_file = 0.0
    distinct: set[tuple[int, int]] = set()
    records = plan.sources[0].index.records
    for step in range(steps):
        began = time.perf_counter()
        _, places_of_step = planned(step)
        planning += time.perf_counter() - began
        for _, _, row in places_of_step:
            int(records["offset"][row, 0])  # as a reader does: the page of the index is touched
            shard, place = divmod(row, SHARD_SAMPLES)
            for block in range(place * SAMPLE_BYTES // BLOCK, (place * SAMPLE_BYTES + SAMPLE_BYTES - 1) // BLOCK + 1):
                key = shard, block
                blocks += 1
                if key in cache:
                    cache.move_to_end(key)
                    continue
                requests += 1
                distinct.add(key)
                cache[key] = None
                if len(cache) * BLOCK > CACHE:
                    cache.popitem(last=False)
            places += 1
        if step % 500 == 0:
            peak_file = max(peak_file, status("RssFile"))
    return {
        "places": places,
        "requests": requests,
        "read_twice": round(requests / len(distinct) - 1, 5),
        "gb_read": round(requests * BLOCK / 1e9, 3),
        "gb_of_its_places": round(places * SAMPLE_BYTES / 1e9, 3),
        "cache_gb_used": round(len(cache) * BLOCK / 1e9, 2),
        "planning_us_a_step": round(planning / steps * 1e6, 1),
        "anonymous_mb": round(status("RssAnon") - memory[0], 1),
        "index_mb": round(peak_file - memory[1], 1),
    }


def spread(plan: Plan, steps: list[int]) -> dict[str, float]:
    """Return how many shards global batches hold."""
    distinct, largest = [], []
    for step in steps:
        rows = plan.locate(np.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)).rows
        counts = np.bincount(rows // SHARD_SAMPLES)
        distinct.append(int((counts > 0).sum()))
        largest.append(int(counts.max()))
    return {"shards_in_a_batch": round(float(np.mean(distinct)), 1), "largest_from_one_shard": max(largest)}


def resume(index: SplitIndex, lanes: int) -> float:
    """Return seconds from nothing to the first batch's rows at 90 % of an epoch, rank 300."""
    step = int(0.9 * len(index) / GLOBAL_BATCH)
    began = time.perf_counter()
    plan = make_plan(index, lanes)
    plan.locate(np.array(rank_positions(step, global_batch=GLOBAL_BATCH, rank=300, world=WORLD)))
    return time.perf_counter() - began


def mixed(index: SplitIndex) -> dict[str, float]:
    """Return the worst shares of three mixed sources (0.6, 0.3, 0.1) in 200 global batches."""
    plan = Plan([Places(index, "all", 0)] * 3, [0.6, 0.3, 0.1], seed=0, lanes=512, window=4096)
    shares = []
    for step in range(0, 20_000, 100):
        sources = plan.locate(np.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)).sources
        shares.append(np.bincount(sources, minlength=3) / GLOBAL_BATCH)
    worst = np.abs(np.array(shares) - [0.6, 0.3, 0.1]).max()
    return {"largest_share_error_of_mixed_sources": round(float(worst), 4)}


def main() -> None:
    """Simulate both ways that 512 ranks may fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2, help="ranks whose whole epoch is simulated")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        index = make_index(Path(scratch))
        steps = len(index) // GLOBAL_BATCH
        for lanes in (512, 256):
            plan = make_plan(index, lanes)
            seconds = sorted(resume(index, lanes) for _ in range(9))[4]
            shared = spread(plan, [0, 1000, 5000, 9000]) | {"resume_seconds": round(seconds, 4)} | mixed(index)
            for rank in np.linspace(0, WORLD - 1, arguments.ranks).astype(int).tolist():
                row = {"lanes": lanes, "ranks": WORLD, "rank": rank, "steps_of_an_epoch": steps}
                rows.append(row | rank_epoch(make_plan(index, lanes), rank, steps) | shared)
                print(rows[-1], flush=True)
    remark = (
        f"{machine()}; {SHARDS:,} shards, {SHARDS * SHARD_SAMPLES:,} samples, batch {GLOBAL_BATCH}; 1 % of a step of"
    )
    print(write_csv("order_at_scale", rows, f"{remark} 0.1 s is 1,000 us; {os.cpu_count()} cores"))


if __name__ == "__main__":
    main()
