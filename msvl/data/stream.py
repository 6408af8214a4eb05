"""Shards -> batches: endless, bounded by the step, the same samples for any number of ranks and workers.

Step t of a global batch B takes positions t*B ... t*B + B - 1 of the plan; rank r of W those with p = r mod W. A resume
starts at its step: nothing is replayed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
import webdataset
from torch.utils.data import IterableDataset, get_worker_info

from msvl.config.errors import DataError
from msvl.data.batch import Batch
from msvl.data.batch_reader import BatchReader, Note, Reading
from msvl.data.config import DataConfig
from msvl.data.faults import Fill
from msvl.data.loader_signals import obey_only
from msvl.data.plan import Plan
from msvl.data.planned_steps import Share
from msvl.data.token_store import TokenStore
from msvl.data.tokenise import ReportTokeniser
from msvl.environment import die_with


class Steps(IterableDataset):
    """The source of the pipeline: step numbers from `start` on, dealt to loader workers in turn."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self._start = start

    def __iter__(self) -> Iterator[int]:
        """Yield this worker's steps; the loader takes them from the workers in turn, so they come in order."""
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self._start + number
        while True:
            yield step
            step += count


def training_batches(
    plan: Plan,
    config: DataConfig,
    tokeniser: ReportTokeniser,
    share: Share,
    *,
    start_step: int,
    fills: Mapping[int, Fill] | None = None,
    stored: Sequence[TokenStore | None] | None = None,
    note: Note | None = None,
) -> Iterator[Batch]:
    """Yield this rank's batches from `start_step` on, without end; every rank gets the same number.

    Args:
        plan: What every position reads.
        config: How it is read.
        tokeniser: The run's.
        share: Which positions this rank reads.
        start_step: Steps done.
        fills: Places that were filled before, by position: they are filled the same way again.
        stored: Stored token ids of each source, or None where its texts are tokenised as they are read. Both give the same.
        note: Told what is being read.

    Raises:
        DataError: a place cannot be filled, not even by a hundred substitutes.
    """
    reading = Reading(config, tokeniser, stored or [None] * len(plan.sources))
    reader = BatchReader(plan, reading, share, fills or {}, note)
    pipeline = webdataset.DataPipeline(Steps(start_step), webdataset.map(reader))
    if config.workers == 0:
        return iter(pipeline)
    loader = webdataset.WebLoader(
        pipeline,
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=2,
        worker_init_fn=partial(_start_worker, os.getpid()),
    )
    return _plain_errors(iter(loader))


def _plain_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Give a loader process's DataError its own sentence back: torch wraps it into a traceback."""
    try:
        yield from batches
    except DataError as error:
        sentence = str(error).strip().splitlines()[-1]
        raise DataError(sentence.removeprefix("msvl.config.errors.DataError: ")) from None


def _start_worker(rank_process: int, number: int) -> None:
    obey_only(rank_process)  # before the first thread
    die_with(rank_process)
    torch.set_num_threads(1)
