"""One rank's share of a step: planned, read, decoded, augmented and tokenised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import get_worker_info

from msvl.data.batch import Batch, SampleIds, Tokens
from msvl.data.config import DataConfig
from msvl.data.draws import AUGMENTATION, SENTENCES, stream_states, uniform
from msvl.data.faults import Fault, Fill, LostSamples
from msvl.data.flat_reports import draw_sentences, reordered
from msvl.data.identity import stable_id
from msvl.data.images import DRAWS, training_image
from msvl.data.order import step_draw
from msvl.data.plan import Plan
from msvl.data.planned_steps import PlannedSteps, Share
from msvl.data.reader import SampleReader
from msvl.data.shard_files import ShardFault
from msvl.data.texts import FoundText, OnlineTexts, SentenceEncoder, StoredTexts, read_ids
from msvl.data.token_store import TokenStore
from msvl.data.tokenise import ReportTokeniser

_Sample = tuple[int, int, int, str, int]
"""Source, epoch, row, key, and 63 bits of the key's hash."""
Note = Callable[[int, str, str], None]
"""Called with (loader process from 1 or 0, shard, key) before every read, with an empty key after a batch."""
MAX_SUBSTITUTES = 100
"""Attempts to fill one place before the set must be called unreadable."""


@dataclass(frozen=True)
class Reading:
    """How samples are read: the same on every rank."""

    config: DataConfig
    tokeniser: ReportTokeniser
    stored: Sequence[TokenStore | None]
    """Stored token ids of each source; None: its texts are tokenised as they are read."""


class _Source(NamedTuple):
    samples: SampleReader
    texts: OnlineTexts | StoredTexts


class _Step(NamedTuple):
    """The step that is read."""

    number: int
    impression: bool
    """Whether it reads impressions alone."""
    fills: list[Fill]


class _Found(NamedTuple):
    """A sample that was read into a place."""

    source: int
    epoch: int
    row: int
    key: str
    name: int
    text: FoundText


class BatchReader:
    """Reads a share of a step: a pure function of plan, step and known fills, but for records that became unreadable."""

    def __init__(
        self, plan: Plan, reading: Reading, share: Share, fills: Mapping[int, Fill], note: Note | None = None
    ) -> None:
        config = reading.config
        self._plan = plan
        self._config = config
        self._size = config.image_size * config.target_scale
        self._reading = reading
        self._planned = PlannedSteps(plan, share, stride=max(1, config.workers))
        self._fills = fills
        self._sources: list[_Source] = []
        self._note = note
        self._process = 0
        self._lost = LostSamples(samples=plan.samples, max_share=config.max_bad_share)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step. Raises DataError when a place cannot be filled."""
        if not self._sources:  # in the process that reads: open files do not travel
            cv2.setNumThreads(1)
            self._sources = self._opened()
            worker = get_worker_info()
            self._process = worker.id + 1 if worker else 0
        positions, planned = self._planned(step)
        names = [self._names(source, row) for source, _, row in planned]
        numbers = self._numbers([name for _, name in names], [epoch for _, epoch, _ in planned])
        impression = step_draw(self._plan.seed, step) < self._config.report.impression_share
        reading = _Step(step, impression, [])
        images = np.empty((len(positions), 1, self._size, self._size), dtype=np.uint8)
        samples = [(*place, *name) for place, name in zip(planned, names, strict=True)]
        # All texts, then all images: between two images a text's code and data fall out of the caches.
        texts = [
            None if position in self._fills else self._text(reading, sample)
            for position, sample in zip(positions, samples, strict=True)
        ]
        found = [
            self._place(reading, position, samples[place], texts[place], numbers[place], images[place, 0])
            for place, position in enumerate(positions)
        ]
        if self._note:
            last = found[-1]
            self._note(self._process, self._sources[last.source].samples.shard(last.row), "")
        ids, tokens = self._ids_and_tokens(found, impression=impression)
        keys = tuple(item.key for item in found)
        shown = tuple(self._sources[item.source].samples.shown_key(item.row) for item in found)
        return Batch(
            images=torch.from_numpy(images),
            tokens=tokens,
            ids=ids,
            keys=keys,
            shown=keys if shown == keys else shown,
            step=step,
            fills=tuple(reading.fills),
        )

    def _opened(self) -> list[_Source]:
        reading, sources = self._reading, []
        encoder = SentenceEncoder(reading.tokeniser, self._config.report)
        for places, store in zip(self._plan.sources, reading.stored, strict=True):
            samples = SampleReader(places.index)
            online = OnlineTexts(samples, encoder)
            sources.append(_Source(samples, StoredTexts(store, samples, online) if store else online))
        return sources

    def _text(self, step: _Step, planned: _Sample) -> FoundText | None:
        """Return the planned sample's text; None where it cannot be read: the fault shows again when its place is filled."""
        source, _, row, _, _ = planned
        self._tell(source, row)
        try:
            return self._sources[source].texts.find(row, impression=step.impression)
        except ValueError:
            return None

    def _tell(self, source: int, row: int) -> None:
        """Tell what is being read."""
        if self._note:
            samples = self._sources[source].samples
            self._note(self._process, samples.shard(row), samples.shown_key(row))

    def _place(
        self,
        step: _Step,
        position: int,
        planned: _Sample,
        text: FoundText | None,
        numbers: Sequence[float],
        out: np.ndarray,
    ) -> _Found:
        """Read the planned sample, or the first substitute that can be read; a place that was filled before is so again."""
        known = self._fills.get(position)
        first = known.attempt if known else 0
        faults = []
        for attempt in range(first, first + MAX_SUBSTITUTES + 1):
            source, epoch, row, key, name = self._substitute(position, attempt) if attempt else planned
            samples, texts = self._sources[source]
            self._tell(source, row)
            try:
                if attempt or text is None:
                    text = texts.find(row, impression=step.impression)
                drawn = self._numbers([name], [epoch])[0] if attempt else numbers
                training_image(samples.image(row), self._config.augment, drawn, out)
            except ValueError as error:
                faults.append(_fault(samples, row, error))
                continue
            if faults:
                self._lost.add(faults)
                step.fills.append(Fill(step.number, position, attempt, key, tuple(faults)))
            return _Found(source, epoch, row, key, name, text)
        self._lost.add(faults)
        raise self._lost.error()

    def _substitute(self, position: int, attempt: int) -> _Sample:
        source, epoch, row = self._plan.substitute(position, attempt)
        return (source, epoch, row, *self._names(source, row))

    def _names(self, source: int, row: int) -> tuple[str, int]:
        """Return a sample's key, and 63 bits of its hash."""
        key = self._sources[source].samples.key(row)
        return key, stable_id(key)

    def _numbers(self, names: Sequence[int], epochs: Sequence[int]) -> list[list[float]]:
        """Return the numbers that decide each sample's augmentation."""
        states = stream_states(self._plan.seed, np.array(epochs), np.array(names), AUGMENTATION)
        return uniform(states[:, None], np.arange(DRAWS)).tolist()

    def _ids_and_tokens(self, found: Sequence[_Found], *, impression: bool) -> tuple[SampleIds, Tokens]:
        report = self._config.report
        names = np.array([item.name for item in found])
        states = stream_states(self._plan.seed, np.array([item.epoch for item in found]), names, SENTENCES)
        read = np.empty(len(found), dtype=np.int64)
        parts = []
        for texts in {id(item.text.texts): item.text.texts for item in found}.values():
            places = np.array([place for place, item in enumerate(found) if item.text.texts is texts])
            encoded = texts.drawn(
                [found[place].text.text for place in places],
                lambda counts, places=places: draw_sentences(counts, report.sentence_sampling, states[places]),  # type: ignore[misc]
                impression=impression,
            )
            read[places] = read_ids(encoded)
            parts.append((places, encoded.reports))
        tokens = self._reading.tokeniser.lay_out(reordered(parts), report.unit).trimmed()
        text, study, patient = self._names_of_records(found)
        ids = (names, text, read, study, patient)
        return SampleIds(*(torch.from_numpy(column) for column in ids)), tokens

    def _names_of_records(self, found: Sequence[_Found]) -> np.ndarray:
        """Return 63 bits of the hashes of text, study and patient: [3, m] int64."""
        names = np.empty((3, len(found)), dtype=np.int64)
        sources = np.array([item.source for item in found])
        for source in np.unique(sources):
            places = np.flatnonzero(sources == source)
            records = self._sources[source].samples.index.records
            rows = [found[place].row for place in places.tolist()]
            for column, name in enumerate(("text", "study", "patient")):
                names[column, places] = (records[name][rows] >> np.uint64(1)).astype(np.int64)
        return names


def _fault(reader: SampleReader, row: int, error: ValueError) -> Fault:
    if isinstance(error, ShardFault):
        return Fault(reader.shard(row), "", str(error), samples=reader.index.shards[error.shard].samples)
    return Fault(reader.shard(row), reader.shown_key(row), str(error))
