"""Memory of a loader process over 100,000 samples.

    python benchmarks/data/memory_flat.py           three minutes; CSV into benchmarks/results/

One process reads a set of 10,000 samples in 200 shards ten times over: 224 px, augmented, tokenised. Anonymous memory is
its own; file memory is pages of libraries and of the index.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.data.many_shards import data_config, make  # noqa: E402
from benchmarks.measuring import machine, write_csv  # noqa: E402
from msvl.data.planned_steps import Share  # noqa: E402
from msvl.data.stream import training_batches  # noqa: E402
from msvl.data.tokenise import ReportTokeniser  # noqa: E402
from msvl.data.training_data import TrainingData  # noqa: E402

GLOBAL_BATCH = 100


def megabytes(process: int, key: str) -> float:
    """Return a size of another process."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return round(next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":")), 1)


def main() -> None:
    """Read and look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    samples = parser.parse_args().samples
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(Path(scratch) / "many")
        config = data_config(folder, workers=1)
        data = TrainingData.open(config, 0)
        tokeniser = ReportTokeniser(str(data.sets[0].tokenizer_path), config.report)
        batches = training_batches(data.plan, config, tokeniser, Share(GLOBAL_BATCH), start_step=0)
        for step in range(samples // GLOBAL_BATCH + 1):
            next(batches)
            if step * GLOBAL_BATCH % (samples // 20) == 0:
                (worker,) = (child.pid for child in multiprocessing.active_children())
                row = {"samples": step * GLOBAL_BATCH}
                row |= {
                    name: megabytes(worker, key) for name, key in (("anonymous_mb", "RssAnon"), ("file_mb", "RssFile"))
                }
                rows.append(row)
                print(row, flush=True)
    print(write_csv("memory_flat", rows, f"{machine()}; one loader process, 200 shards, 224 px"))


if __name__ == "__main__":
    main()
