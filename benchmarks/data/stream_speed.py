"""The full stream against a bare loop, a pipeline as users write it, and two other loaders: microseconds of CPU a sample.

    python benchmarks/data/stream_speed.py                 six minutes alone on two cores; stream_peers.py tells how to have the peers
    python benchmarks/data/stream_speed.py --rounds 12 --samples 600       a look

Read, decode, augment, tokenise, collate at 224 px from 512 px JPEG, batches of 64, without loader processes. Real radiographs
and reports (`stream_set.py`) in a folder of its own that is removed. Every stream has a process of its own and is
warm; in every round each gives some batches, in another order each time, and its process tells the CPU seconds of all its
threads. Ratios and differences are taken within a round. The stream mixes two sets by weight, checks every sample, and writes
its fills; `cached` reads them from a web server through the node's cache, with retries.

Needs ../shared/data. energon and mosaicml-streaming are measured where they are installed (`stream_peers.py`).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.data import stream_peers  # noqa: E402
from benchmarks.data.stream_bare import bare_loop  # noqa: E402
from benchmarks.data.stream_set import make_sets  # noqa: E402
from benchmarks.data.stream_stages import stages  # noqa: E402
from benchmarks.measuring import RESULTS, machine, write_csv  # noqa: E402
from msvl.data.cache import CacheConfig  # noqa: E402
from msvl.data.config import DataConfig, ReportConfig  # noqa: E402
from msvl.data.fills import FillFile  # noqa: E402
from msvl.data.make_tokens import TextSource, stored_tokens  # noqa: E402
from msvl.data.packed import PackedSet  # noqa: E402
from msvl.data.planned_steps import Share  # noqa: E402
from msvl.data.stream import training_batches  # noqa: E402
from msvl.data.tokenise import ReportTokeniser  # noqa: E402
from msvl.data.training_data import TrainingData  # noqa: E402
from tests.helpers.object_server import serve_objects  # noqa: E402

BATCH, WARM_UP = 64, 40
STREAMS = {
    "bare loop, float32, online": ("bare", {"floats": True, "texts": "sentences"}),
    "bare loop, float32, whole reports": ("bare", {"floats": True, "texts": "whole"}),
    "bare loop, float32, whole reports, transformers": ("bare", {"floats": True, "texts": "transformers"}),
    "bare loop, uint8, online": ("bare", {"floats": False, "texts": "sentences"}),
    "bare loop, uint8, stored ids": ("bare", {"floats": False, "texts": "stored"}),
    "msvl, float32, online": ("msvl", {"floats": True, "stored": False}),
    "msvl, uint8, online": ("msvl", {"floats": False, "stored": False}),
    "msvl, uint8, stored ids": ("msvl", {"floats": False, "stored": True}),
    "msvl, uint8, stored ids, cached": ("msvl", {"floats": False, "stored": True, "cached": True}),
    "msvl, uint8, stored ids, 518 px from 640 px": ("msvl", {"floats": False, "stored": True, "fine": True}),
    "webdataset and Pillow, as users write it": ("plain", {}),
    "energon, same transform": ("energon", {}),
    "mosaicml-streaming, same transform": ("mosaic", {}),
}
BARE, WHOLE, WRAPPED, BARE_BYTES, CEILING = list(STREAMS)[:5]
BATCHES = {"plain": 1}
"""Batches a round, 2 where nothing is said: short turns, so that a ratio is taken of what ran within two seconds."""


def msvl_stream(folder: Path, *, floats: bool, stored: bool, cached: bool = False, fine: bool = False) -> Iterator[Any]:
    """Yield batches of the stream as a run has them; in floats, standardised as a model without a device would."""
    scratch, served = Path(tempfile.mkdtemp(dir=folder.parent)), ExitStack()
    places = {str(folder / "fine"): 1.0} if fine else {str(folder / "large"): 0.7, str(folder / "small"): 0.3}
    cache = None
    if cached:
        server = served.enter_context(serve_objects())
        for name in ("large", "small"):
            for file in (folder / name).rglob("*"):
                if file.is_file():
                    server.objects[f"/{name}/{file.relative_to(folder / name).as_posix()}"] = file.read_bytes()
        places = {f"{server.url}/large": 0.7, f"{server.url}/small": 0.3}
        cache = CacheConfig(folder=str(scratch / "cache"))
    report, size = ReportConfig(sentence_sampling="shuffle"), 518 if fine else 224
    config = DataConfig(path=next(iter(places)), mix=places, image_size=size, workers=0, report=report, cache=cache)
    data = TrainingData.open(config, 0)
    tokeniser = ReportTokeniser(str(folder / "large" / "tokenizer"), report)
    texts = [TextSource.of(packed, "train", tokeniser, report) for packed in data.sets]
    found = [stored_tokens(source, workers=1) for source in texts] if stored else None
    events = FillFile(scratch, 0)
    mean, std = (np.float32(255 * value) for value in (data.sets[0].pixel_mean, data.sets[0].pixel_std))
    for batch in training_batches(data.plan, config, tokeniser, Share(BATCH), start_step=0, stored=found):
        if batch.fills:
            events.append(batch.fills)
        if floats:
            values = np.empty(batch.images.shape, np.float32)
            for row, image in zip(values, batch.images.numpy(), strict=True):  # one by one they stay in the cache
                np.multiply(image, 1 / std, out=row)
                np.subtract(row, mean / std, out=row)
            yield batch, torch.from_numpy(values)
        else:
            yield batch


def open_stream(kind: str, options: dict[str, Any], folder: Path) -> Iterator[Any] | None:
    """Return a stream's batches; None for a peer that is not installed."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if kind == "msvl":
        return msvl_stream(folder, **options)
    packed = PackedSet.open(folder / "large")
    if kind == "bare":
        return bare_loop(packed, BATCH, **options)
    if kind == "plain":
        return stream_peers.plain_webdataset(packed, BATCH)
    peer = stream_peers.available(kind)
    return peer(packed, BATCH, Path(tempfile.mkdtemp(dir=folder.parent))) if peer else None


def serve_stream(pipe: Connection, kind: str, options: dict[str, Any], folder: Path) -> None:
    """Give as many batches as is asked for, and answer with their CPU seconds; an empty answer: it is not installed."""
    batches = open_stream(kind, options, folder)
    if batches is None:
        pipe.send(None)
        return
    for _ in itertools.islice(batches, WARM_UP):
        pass
    pipe.send("warm")
    while True:
        count = pipe.recv()
        began = time.process_time()
        for _ in itertools.islice(batches, count):
            pass
        pipe.send((time.process_time() - began) / (count * BATCH) * 1e6)


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return microseconds a sample of each stream, by round."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, (kind, options) in STREAMS.items():
            pipe, other = context.Pipe()
            # Not a daemon: energon starts processes of its own to prepare a set.
            processes.append(context.Process(target=serve_stream, args=(other, kind, options, folder)))
            processes[-1].start()
            other.close()  # so that one that fails ends this too
            if pipe.recv() is None:
                continue
            pipes[name] = pipe
            print(f"{name}: warm", flush=True)
        found: dict[str, list[float]] = {name: [] for name in pipes}
        rng = np.random.default_rng(0)
        for number in range(rounds):
            for place in rng.permutation(len(pipes)):
                name = list(pipes)[place]
                pipes[name].send(BATCHES.get(STREAMS[name][0], 2))
                found[name].append(pipes[name].recv())
            if number % 10 == 9:
                print(f"round {number + 1} of {rounds}", flush=True)
    finally:
        for process in processes:
            process.kill()  # some keep threads
            process.join()
    return found


def quartiles(values: np.ndarray, digits: int) -> list[float]:
    """Return first quartile, median and third quartile."""
    return [round(float(value), digits) for value in np.percentile(values, [25, 50, 75])]


def table(found: dict[str, list[float]]) -> list[dict[str, object]]:
    """Return a row per stream."""
    times = {name: np.array(values) for name, values in found.items()}
    rows: list[dict[str, object]] = []
    for name, values in times.items():
        row: dict[str, object] = {"stream": name}
        columns: dict[str, tuple[Callable[[], np.ndarray], int]] = {
            "us_a_sample": (lambda values=values: values, 1),
            "us_over_bare": (lambda values=values: values - times[BARE], 1),
            "us_over_bare_whole_reports": (lambda values=values: values - times[WHOLE], 1),
            "us_over_bare_uint8": (lambda values=values: values - times[BARE_BYTES], 1),
            "us_over_ceiling": (lambda values=values: values - times[CEILING], 1),
            "speed_over_bare": (lambda values=values: times[BARE] / values, 3),
            "speed_over_bare_transformers": (lambda values=values: times[WRAPPED] / values, 3),
        }
        for column, (of, digits) in columns.items():
            lower, median, upper = quartiles(of(), digits)
            row |= {f"{column}_lower": lower, column: median, f"{column}_upper": upper}
        rows.append(row)
    return rows


def plot(rows: list[dict[str, Any]], target: Path) -> None:
    """Draw images a CPU second with quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.2), layout="constrained")
    names = [str(row["stream"]) for row in rows][::-1]
    middle = np.array([1e6 / row["us_a_sample"] for row in rows][::-1])
    ends = np.array([[1e6 / row["us_a_sample_upper"], 1e6 / row["us_a_sample_lower"]] for row in rows][::-1]).T
    colours = ["tab:blue" if name.startswith("msvl") else "0.6" for name in names]
    axes.barh(names, middle, color=colours, xerr=np.abs(ends - middle), ecolor="0.2")
    axes.set_xlabel("images per CPU second and their quartiles, 512 px JPEG to 224 px")
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure, print, write CSV files and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--sets", type=Path, help="folder of sets made before (default: made, and removed)")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    try:
        folder = arguments.sets or scratch / "sets"
        if arguments.sets is None:
            make_sets(folder, arguments.samples)
        # The other sets' ids are made here, so that no stream makes them while another is measured.
        for fine in (False, True):
            next(msvl_stream(folder, floats=False, stored=True, fine=fine))
        found = measure(folder, arguments.rounds)
        parts = [
            {"stream": name, **row}
            for name, stored in (("msvl, uint8, online", False), ("msvl, uint8, stored ids", True))
            for row in stages(msvl_stream(folder, floats=False, stored=stored), batches=32, batch=BATCH)
        ]
    finally:
        shutil.rmtree(scratch)
    rows = table(found)
    for row in [*rows, *parts]:
        print(row, flush=True)
    remark = f"{machine()}, OpenCV {cv2.__version__}; batch {BATCH}, {arguments.rounds} rounds, medians and quartiles"
    target = write_csv("stream_speed", rows, remark)
    plot(rows, target.with_suffix(".png"))
    print(target, write_csv("stream_stages", parts, f"{machine()}; us a sample, inclusive times of 32 warm batches"))
    raw = RESULTS / target.name.replace("stream_speed", "stream_speed_rounds")
    with open(raw, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(found)
        writer.writerows(zip(*([round(value, 1) for value in values] for values in found.values()), strict=True))


if __name__ == "__main__":
    main()
