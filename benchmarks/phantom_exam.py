"""Measure how hard the phantom is: pixel regression (at most 0.85), a supervised network (at least 0.95), images per second.

python benchmarks/phantom_exam.py --train 6000 --epochs 4
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msvl.data.phantom.digest import parameters_digest  # noqa: E402
from msvl.data.phantom.exam import Schooling, pixel_regression_auc, supervised_auc  # noqa: E402
from msvl.data.phantom.parameters import FINDINGS  # noqa: E402
from msvl.data.sources.phantom import PhantomSource  # noqa: E402
from msvl.data.study import Entry  # noqa: E402


def main() -> int:
    """Run the exam and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=6000, help="training patients")
    parser.add_argument("--test", type=int, default=600, help="test patients")
    parser.add_argument("--variant", default="standard", help="standard or shifted")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures")
    parser.add_argument("--epochs", type=int, default=4, help="of the supervised network; 0 leaves it out")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw")
    arguments = parser.parse_args()
    source = PhantomSource(
        train=arguments.train, val=0, test=arguments.test, variant=arguments.variant, size=arguments.size
    )
    parts = {}
    for split in ("train", "test"):
        entries = [entry for entry in source.entries() if entry.split == split]
        parts[split] = drawn(source, entries, processes=arguments.processes)
    figures = {
        "digest": parameters_digest(),
        "images_per_second_per_core": round(rate(source), 1),
        "positives_in_test": dict(zip(FINDINGS, parts["test"][1].sum(axis=0).tolist(), strict=True)),
        "pixel_regression": _rounded(pixel_regression_auc(*parts["train"], *parts["test"])),
    }
    if arguments.epochs:
        supervised, seconds = supervised_auc(
            *parts["train"], *parts["test"], schooling=Schooling(epochs=arguments.epochs)
        )
        figures |= {"supervised": _rounded(supervised), "supervised_seconds": round(seconds)}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


def drawn(source: PhantomSource, entries: list[Entry], *, processes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, H, W] and labels [N, K] of these entries."""
    with ProcessPoolExecutor(processes) as pool:
        records = pool.map(source.record, entries, chunksize=32)
        pairs = [(record.image, [record.labels[name] for name in FINDINGS]) for record in records]
    return np.stack([image for image, _ in pairs]), np.array([labels for _, labels in pairs], dtype=np.int64)


def rate(source: PhantomSource, *, studies: int = 300, rounds: int = 3) -> float:
    """Return the median number of studies that one process draws per second, once it is warm."""
    entries = list(source.entries())[:studies]
    source.record(entries[0])
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for entry in entries:
            source.record(entry)
        seconds.append(time.perf_counter() - start)
    return len(entries) / statistics.median(seconds)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()} | {
        "mean": round(float(np.mean(list(figures.values()))), 3)
    }


if __name__ == "__main__":
    sys.exit(main())
