"""How well the stream shuffles, by its own order code, beside a full permutation and what webdataset users have.

    python benchmarks/data/order_quality.py         a minute; CSV into benchmarks/results/

- correlation: Spearman's, of a place's position in one epoch and in the next (0 is ideal, mean of nine pairs of epochs).
- same shard: pairs of a global batch that come from the same shard, as a share of all its pairs; under a full
  permutation it is about one in the number of shards.
- shards in a batch: distinct ones; the largest share of a batch that one shard has.
- moved: median distance of a place's positions in two epochs, as a share of an epoch (1 - sqrt(1/2) = 0.293 is ideal).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.measuring import machine, write_csv  # noqa: E402
from msvl.data.order import SourceOrder, unit_sizes  # noqa: E402

EPOCHS = 10
LANES, WINDOW = 64, 4096
CASES = {  # shards, places of each, global batch
    "MIMIC-CXR, studies": (76, 3000, 512),
    "one million": (200, 5000, 1024),
    "five million": (1000, 5000, 4096),
    "a few thousand": (4, 1000, 64),
}
WIDER = {"one million": ((64, 16384), (512, 4096)), "five million": ((64, 16384), (64, 65536), (512, 4096))}
"""Other lanes and windows for the sets in which shards are units."""


def lanes_order(shards: int, size: int, epoch: int, lanes: int = LANES, window: int = WINDOW) -> np.ndarray:
    """Return the places of an epoch in the stream's order."""
    order = SourceOrder(unit_sizes(np.full(shards, size), lanes), seed=0, source=0, lanes=lanes, window=window)
    return order.locate(np.arange(epoch * order.count, (epoch + 1) * order.count))[1]


def full_order(shards: int, size: int, epoch: int) -> np.ndarray:
    """Return a permutation of all places."""
    return np.random.default_rng([epoch, 7]).permutation(shards * size)


def buffer_order(shards: int, size: int, epoch: int) -> np.ndarray:
    """Return shuffled shards through a buffer of 1,000 samples, one reader: `shuffle(1000)` of webdataset."""
    rng = np.random.default_rng([epoch, 8])
    stream = (rng.permutation(shards)[:, None] * size + np.arange(size)).ravel()
    buffer, out = list(stream[:1000]), np.empty_like(stream)
    picks = rng.integers(1000, size=len(stream))
    for place, following in enumerate(stream[1000:]):
        out[place], buffer[picks[place]] = buffer[picks[place]], following
    out[len(stream) - len(buffer) :] = rng.permutation(buffer)
    return out


def judge(epochs: list[np.ndarray], size: int, batch: int) -> dict[str, float]:
    """Return the measures."""
    count = len(epochs[0])
    places_of = []
    for epoch in epochs:
        where = np.empty(count, dtype=np.int64)
        where[epoch] = np.arange(count)
        places_of.append(where)
    pairs = list(zip(places_of, places_of[1:], strict=False))
    shards = epochs[0][: count // batch * batch].reshape(-1, batch) // size
    counts = np.stack([np.bincount(one, minlength=count // size) for one in shards])
    return {
        "correlation": round(float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs])), 5),
        "correlation_largest": round(float(max(abs(np.corrcoef(one, other)[0, 1]) for one, other in pairs)), 5),
        "same_shard": round(float((counts * (counts - 1)).sum(axis=1).mean() / (batch * (batch - 1))), 5),
        "shards_in_a_batch": round(float((counts > 0).sum(axis=1).mean()), 1),
        "largest_share": round(float(counts.max(axis=1).mean() / batch), 4),
        "moved": round(float(np.median([np.median(np.abs(one - other)) for one, other in pairs]) / count), 4),
    }


def main() -> None:
    """Judge every case."""
    rows: list[dict[str, object]] = []
    for name, (shards, size, batch) in CASES.items():
        orders: dict[str, Callable[[int, int, int], np.ndarray]] = {"lanes": lanes_order}
        for lanes, window in WIDER.get(name, ()):
            orders[f"{lanes} lanes, window {window:,}"] = partial(lanes_order, lanes=lanes, window=window)
        orders |= {"full permutation": full_order, "buffer of 1,000": buffer_order}
        for kind, order in orders.items():
            epochs = [order(shards, size, epoch) for epoch in range(EPOCHS if shards * size < 2e6 else 3)]
            row = {"set": name, "shards": shards, "places": shards * size, "batch": batch, "order": kind}
            rows.append(row | judge(epochs, size, batch))
            print(rows[-1], flush=True)
    print(write_csv("order_quality", rows, f"{machine()}; lanes: {LANES} of window {WINDOW:,}"))


if __name__ == "__main__":
    main()
