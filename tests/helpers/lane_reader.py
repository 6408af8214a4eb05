"""Reader processes that log the keys they read, as ranks of a run would, until somebody kills them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

from msvl.data.config import AugmentConfig, DataConfig, ReportConfig
from msvl.data.fills import FillFile, read_fills
from msvl.data.planned_steps import Share
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.data.training_data import TrainingData
from tests.helpers.processes import descendants, wait_until_gone

SEED, GLOBAL_BATCH = 5, 8


def data_config(path: str, **changes: object) -> DataConfig:
    report = ReportConfig(max_tokens=24, max_sentences=4)
    still = AugmentConfig(enabled=False)
    values = {
        "path": path,
        "image_size": 16,
        "workers": 0,
        "report": report,
        "augment": still,
        "lanes": 4,
        "shuffle_window": 6,
    }
    return DataConfig(**values | {"max_bad_share": 0.5} | changes)


def read_and_log(run: str, config: DataConfig, share: Share, start: int) -> None:
    """Read without end; fills are on disk before their step is logged, as in training."""
    data = TrainingData.open(config, SEED)
    tokeniser = ReportTokeniser(str(data.sets[0].tokenizer_path), config.report)
    stream = training_batches(data.plan, config, tokeniser, share, start_step=start, fills=read_fills(Path(run)))
    events = FillFile(Path(run), share.rank)
    with open(log_file(run, share), "a", encoding="utf-8") as log:
        for batch in stream:
            if batch.fills:
                events.append(batch.fills)
            log.write(f"{batch.step} {' '.join(batch.keys)}\n")
            log.flush()
            time.sleep(0.005)


def log_file(run: str, share: Share) -> Path:
    return Path(run) / f"keys-{share.world}-{share.rank}.txt"


def logged(run: str, share: Share) -> list[tuple[int, list[str]]]:
    """Return (step, keys) of every whole line."""
    path = log_file(run, share)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(int(line.split()[0]), line.split()[1:]) for line in lines]


def run_until(run: str, config: DataConfig, *, world: int, start: int, until: int, limit: float = 60) -> int:
    """Start `world` readers at a step, kill them with SIGKILL when all are past another; return the steps that all did."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.lane_reader"])
    shares = [Share(GLOBAL_BATCH, rank, world) for rank in range(world)]
    before = [len(logged(run, share)) for share in shares]
    processes = [context.Process(target=read_and_log, args=(run, config, share, start)) for share in shares]
    for process in processes:
        process.start()
    deadline = time.monotonic() + limit
    try:
        while min(_reached(run, share, count) for share, count in zip(shares, before, strict=True)) < until:
            assert time.monotonic() < deadline, "the readers did not get there"
            assert all(process.is_alive() for process in processes), "a reader died by itself"
            time.sleep(0.01)
    finally:
        theirs = [child for process in processes for child in descendants(process.pid)]
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    wait_until_gone(theirs)
    return min(_reached(run, share, count) for share, count in zip(shares, before, strict=True)) + 1


def _reached(run: str, share: Share, skip: int) -> int:
    lines = logged(run, share)[skip:]
    return lines[-1][0] if lines else -1
