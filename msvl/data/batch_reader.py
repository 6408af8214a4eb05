"""One rank's share of a step: planned, read, decoded, augmented and tokenised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import get_worker_info

from msvl.data.batch import Batch, SampleIds
from msvl.data.config import DataConfig
from msvl.data.faults import Fault, Fill, LostSamples
from msvl.data.identity import normalised_text, stable_id
from msvl.data.images import training_image
from msvl.data.order import rank_positions, sample_rng, step_draw
from msvl.data.plan import Plan
from msvl.data.reader import SampleReader
from msvl.data.sample import read_sentences
from msvl.data.shard_files import ShardFault
from msvl.data.tokenise import ReportTokeniser, draw_sentences

Note = Callable[[int, str, str], None]
"""Called with (loader process from 1 or 0, shard, key) before every read, with an empty key after a batch."""
MAX_SUBSTITUTES = 100
"""Attempts to fill one place before the set must be called unreadable."""


@dataclass(frozen=True)
class Share:
    """Which part of which batches a rank reads."""

    global_batch: int
    rank: int = 0
    world: int = 1

    def positions(self, step: int) -> range:
        """Return this rank's positions of a step."""
        return rank_positions(step, global_batch=self.global_batch, rank=self.rank, world=self.world)


class BatchReader:
    """Reads a share of a step: a pure function of plan, step and known fills, but for records that became unreadable."""

    def __init__(
        self,
        plan: Plan,
        config: DataConfig,
        tokeniser: ReportTokeniser,
        share: Share,
        fills: Mapping[int, Fill],
        note: Note | None = None,
    ) -> None:
        self._plan = plan
        self._config = config
        self._size = config.image_size * config.target_scale
        self._tokeniser = tokeniser
        self._share = share
        self._fills = fills
        self._note = note
        self._process = 0
        self._readers: list[SampleReader] = []
        self._lost = LostSamples(samples=plan.samples, max_share=config.max_bad_share)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step. Raises DataError when a place cannot be filled."""
        if not self._readers:  # in the process that reads: open files do not travel
            cv2.setNumThreads(1)
            self._readers = [SampleReader(places.index) for places in self._plan.sources]
            worker = get_worker_info()
            self._process = worker.id + 1 if worker else 0
        positions = self._share.positions(step)
        sources, epochs, rows = (column.tolist() for column in self._plan.locate(np.array(positions)))
        size = self._size
        impression = step_draw(self._plan.seed, step) < self._config.report.impression_share
        images = np.empty((len(positions), 1, size, size), dtype=np.uint8)
        texts, metas, keys = [], [], []
        fills: list[Fill] = []
        for place, position in enumerate(positions):
            planned = sources[place], epochs[place], rows[place]
            key, image, sentences, meta = self._fill(step, position, planned, fills, impression=impression)
            images[place, 0] = image
            texts.append(sentences)
            metas.append(meta)
            keys.append(key)
        if self._note:
            self._note(self._process, self._readers[sources[-1]].shard(rows[-1]), "")
        return Batch(
            images=torch.from_numpy(images),
            tokens=self._tokeniser.encode(texts, unit=self._config.report.unit).trimmed(),
            ids=_ids(keys, metas, texts),
            keys=tuple(keys),
            step=step,
            fills=tuple(fills),
        )

    def _fill(
        self, step: int, position: int, planned: tuple[int, int, int], fills: list[Fill], *, impression: bool
    ) -> tuple[str, np.ndarray, list[str], dict[str, Any]]:
        """Read the planned sample, or the first substitute that can be read; a place that was filled before is so again."""
        known = self._fills.get(position)
        first = known.attempt if known else 0
        faults = []
        for attempt in range(first, first + MAX_SUBSTITUTES + 1):
            source, epoch, row = self._plan.substitute(position, attempt) if attempt else planned
            reader = self._readers[source]
            if self._note:
                self._note(self._process, reader.shard(row), reader.key(row))
            try:
                read = self._read(reader, row, epoch, impression=impression)
            except ValueError as error:
                faults.append(_fault(reader, row, error))
                continue
            if faults:
                self._lost.add(faults)
                fills.append(Fill(step, position, attempt, read[0], tuple(faults)))
            return read
        self._lost.add(faults)
        raise self._lost.error()

    def _read(
        self, reader: SampleReader, row: int, epoch: int, *, impression: bool
    ) -> tuple[str, np.ndarray, list[str], dict[str, Any]]:
        key = reader.key(row)
        sample, seed = stable_id(key), self._plan.seed
        meta = reader.meta(row)
        rng = sample_rng(seed, epoch, sample, stream=0)
        image = training_image(reader.image(row), self._size, self._config.augment, rng)
        report = self._config.report
        sentences = read_sentences(meta, report, impression=impression)
        drawn = draw_sentences(sentences, report.sentence_sampling, sample_rng(seed, epoch, sample, stream=1))
        return key, image, drawn, meta


def _fault(reader: SampleReader, row: int, error: ValueError) -> Fault:
    if isinstance(error, ShardFault):
        return Fault(reader.shard(row), "", str(error), samples=reader.index.shards[error.shard].samples)
    return Fault(reader.shard(row), reader.key(row), str(error))


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
