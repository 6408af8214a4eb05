"""Shards -> batches: endless, bounded by the step, the same samples for any number of ranks and workers.

Step t of a global batch B takes positions t*B ... t*B + B - 1 of the order; rank r of W those with p = r mod W. A resume
starts at its step: nothing is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
import webdataset
from torch.utils.data import IterableDataset, get_worker_info

from msvl.config.errors import DataError
from msvl.data.batch import Batch, SampleIds
from msvl.data.config import DataConfig
from msvl.data.faults import Faults
from msvl.data.identity import normalised_text, stable_id
from msvl.data.images import training_image
from msvl.data.order import rank_positions, sample_at, sample_rng, step_draw, substitute
from msvl.data.packed import PackedSet, SplitIndex
from msvl.data.reader import SampleReader
from msvl.data.sample import read_sentences
from msvl.data.tokenise import ReportTokeniser, draw_sentences

MAX_SUBSTITUTES = 100
"""Attempts to fill one place before the set must be called unreadable."""


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


class BatchReader:
    """Reads one rank's share of a step: a pure function of (seed, step) but for the log of unreadable records."""

    def __init__(
        self, index: SplitIndex, config: DataConfig, tokeniser: ReportTokeniser, *, seed: int, global_batch: int,
        rank: int, world: int,
    ) -> None:  # fmt: skip
        self._index = index
        self._config = config
        self._size = config.image_size * config.target_scale
        self._tokeniser = tokeniser
        self._seed = seed
        self._global_batch = global_batch
        self._rank = rank
        self._world = world
        self._reader: SampleReader | None = None
        self._faults = Faults(samples=len(index), max_share=config.max_bad_share)

    def __call__(self, step: int) -> Batch:
        """Read, decode, augment and tokenise. Raises DataError when too many records are unreadable."""
        if self._reader is None:  # in the process that reads: open files do not travel
            cv2.setNumThreads(1)
            self._reader = SampleReader(self._index)
        positions = rank_positions(step, global_batch=self._global_batch, rank=self._rank, world=self._world)
        size = self._size
        impression = step_draw(self._seed, step) < self._config.report.impression_share
        images = np.empty((len(positions), 1, size, size), dtype=np.uint8)
        texts, metas, keys = [], [], []
        for row, position in enumerate(positions):
            key, image, sentences, meta = self._fill(position, impression=impression)
            images[row, 0] = image
            texts.append(sentences)
            metas.append(meta)
            keys.append(key)
        return Batch(
            images=torch.from_numpy(images),
            tokens=self._tokeniser.encode(texts, unit=self._config.report.unit).trimmed(),
            ids=_ids(keys, metas, texts),
            keys=tuple(keys),
            step=step,
        )

    def _fill(self, position: int, *, impression: bool) -> tuple[str, np.ndarray, list[str], dict[str, Any]]:
        """Read the sample of a position, or the substitute that (seed, position, attempt) names."""
        assert self._reader is not None
        count = len(self._index)
        number = sample_at(position, seed=self._seed, count=count)
        for attempt in range(1, MAX_SUBSTITUTES + 1):
            try:
                return self._read(number, position // count, impression=impression)
            except ValueError as error:
                self._faults.note(self._reader.key(number), self._reader.shard(number), str(error))
            number = substitute(position, attempt, seed=self._seed, count=count)
        raise AssertionError("Faults.note must have raised before")

    def _read(self, number: int, epoch: int, *, impression: bool) -> tuple[str, np.ndarray, list[str], dict[str, Any]]:
        assert self._reader is not None
        key = self._reader.key(number)
        sample = stable_id(key)
        meta = self._reader.meta(number)
        rng = sample_rng(self._seed, epoch, sample, stream=0)
        image = training_image(self._reader.image(number), self._size, self._config.augment, rng)
        report = self._config.report
        sentences = read_sentences(meta, report, impression=impression)
        drawn = draw_sentences(sentences, report.sentence_sampling, sample_rng(self._seed, epoch, sample, stream=1))
        return key, image, drawn, meta


def training_batches(
    packed: PackedSet,
    config: DataConfig,
    tokeniser: ReportTokeniser,
    *,
    seed: int,
    start_step: int,
    global_batch: int,
    rank: int,
    world: int,
) -> Iterator[Batch]:
    """Yield this rank's batches from `start_step` on, without end; every rank gets the same number.

    Raises DataError when a shard vanishes or too many records are unreadable.
    """
    index = packed.split(config.train_split)
    reader = BatchReader(index, config, tokeniser, seed=seed, global_batch=global_batch, rank=rank, world=world)
    pipeline = webdataset.DataPipeline(Steps(start_step), webdataset.map(reader))
    if config.workers == 0:
        return iter(pipeline)
    loader = webdataset.WebLoader(
        pipeline, batch_size=None, num_workers=config.workers, prefetch_factor=2, worker_init_fn=_start_worker
    )
    return _plain_errors(iter(loader))


def _plain_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Give a loader process's DataError its own sentence back: torch wraps it into a traceback."""
    try:
        yield from batches
    except DataError as error:
        sentence = str(error).strip().splitlines()[-1]
        raise DataError(sentence.removeprefix("msvl.config.errors.DataError: ")) from None


def _start_worker(number: int) -> None:
    torch.set_num_threads(1)


def _ids(keys: list[str], metas: list[dict[str, Any]], texts: list[list[str]]) -> SampleIds:
    def column(values: list[str]) -> torch.Tensor:
        return torch.tensor([stable_id(value) for value in values], dtype=torch.int64)

    return SampleIds(
        sample=column(keys),
        text=column([meta["text_hash"] for meta in metas]),
        read=column(["\n".join(sorted(map(normalised_text, sentences))) for sentences in texts]),
        study=column([meta["study"] for meta in metas]),
        patient=column([meta["patient"] for meta in metas]),
    )
