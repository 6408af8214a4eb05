"""Time to the first batch of a resume at 90 % of an epoch of 200 shards, against a start at 0 %.

    python benchmarks/data/resume_time.py           two minutes; CSV into benchmarks/results/

From the packed set's path to the batch in the training process: open, plan, start the loader's processes, read, decode,
tokenise. Rounds take turns; medians. The promise is a ratio within 1.5.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.data.many_shards import data_config, make  # noqa: E402
from benchmarks.measuring import machine, write_csv  # noqa: E402
from msvl.data.planned_steps import Share  # noqa: E402
from msvl.data.stream import training_batches  # noqa: E402
from msvl.data.tokenise import ReportTokeniser  # noqa: E402
from msvl.data.training_data import TrainingData  # noqa: E402

GLOBAL_BATCH, ROUNDS = 64, 15


def first_batch(folder: Path, workers: int, share: float, epoch: int) -> float:
    """Return seconds to the first batch at a share of an epoch."""
    began = time.perf_counter()
    config = data_config(folder, workers)
    data = TrainingData.open(config, 0)
    tokeniser = ReportTokeniser(str(data.sets[0].tokenizer_path), config.report)
    start = int((epoch + share) * data.plan.epoch_places / GLOBAL_BATCH)
    batches = training_batches(data.plan, config, tokeniser, Share(GLOBAL_BATCH), start_step=start)
    next(batches)
    seconds = time.perf_counter() - began
    del batches
    return seconds


def main() -> None:
    """Measure with and without loader processes."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(Path(scratch) / "many")
        for workers in (0, 2):
            first_batch(folder, workers, 0.5, 0)  # the page cache is warm from here on
            seconds: dict[float, list[float]] = {0.0: [], 0.9: []}
            for number in range(ROUNDS):
                for share in (0.0, 0.9) if number % 2 else (0.9, 0.0):
                    seconds[share].append(first_batch(folder, workers, share, number))
            ratios = [late / early for early, late in zip(seconds[0.0], seconds[0.9], strict=True)]
            quartiles = statistics.quantiles(ratios, n=4)
            rows.append(
                {
                    "workers": workers,
                    "seconds_at_0": round(statistics.median(seconds[0.0]), 4),
                    "seconds_at_90": round(statistics.median(seconds[0.9]), 4),
                    "ratio": round(quartiles[1], 3),
                    "lower_quartile": round(quartiles[0], 3),
                    "upper_quartile": round(quartiles[2], 3),
                }
            )
            print(rows[-1], flush=True)
    print(
        write_csv("resume_time", rows, f"{machine()}; 200 shards of 50 samples, batch {GLOBAL_BATCH}, {ROUNDS} rounds")
    )


if __name__ == "__main__":
    main()
