"""Places of an epoch -> rows of the index: which studies there are, and which image of a study an epoch reads."""

from __future__ import annotations

from typing import Literal

import numpy as np

from msvl.data.draws import draws
from msvl.data.index import SplitIndex, study_starts
from msvl.data.order import groups

Images = Literal["one_per_study", "all"]
"""What a place is: a study, of which each epoch draws one image, or a sample."""
OPEN_SHARDS = 160
"""Shards whose index a process keeps mapped: 64 lanes have two windows open at most. 84 bytes a sample."""


class Places:
    """The places of a split. Planning needs the manifest's counts alone; a shard's index is looked at when it is read."""

    def __init__(self, index: SplitIndex, images: Images, seed: int, kept: np.ndarray | None = None) -> None:
        """Count the places.

        Args:
            index: The split.
            images: What a place is.
            seed: Draws the image of a study.
            kept: [n] ascending rows that are read, of a subset; None reads all. These are looked at now.
        """
        self.index = index
        self._by_study = images == "one_per_study"
        self._kept = kept
        self.per_shard = self._count()
        """[shards] places of each shard."""
        self._first = np.cumsum(self.per_shard) - self.per_shard
        self._seed = seed
        self._borders_of: dict[int, np.ndarray] = {}

    def rows(self, places: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return the [m] rows of the index that [m] places read in [m] epochs."""
        rows = np.empty(len(places), dtype=np.int64)
        shards = np.searchsorted(self._first, places, side="right") - 1
        for members in groups(shards):
            shard = int(shards[members[0]])
            borders, number = self._borders(shard), places[members] - self._first[shard]
            begin = borders[number]
            images = borders[number + 1] - begin
            if (images > 1).any():
                hashes = draws(self._seed, epochs[members], self.index.records["study"][self._row(begin)])
                begin = begin + (hashes % images.astype(np.uint64)).astype(np.int64)
            rows[members] = self._row(begin)
        return rows

    def _row(self, numbers: np.ndarray) -> np.ndarray:
        """Return the rows of the index that the numbers of rows that are read stand for."""
        return numbers if self._kept is None else self._kept[numbers]

    def _count(self) -> np.ndarray:
        if self._kept is None:
            return self.index.studies_per_shard if self._by_study else self.index.samples_per_shard
        kept = self._kept
        if self._by_study:  # no study is in two shards
            kept = kept[study_starts(self.index.records["study"][kept])]
        ends = np.cumsum(self.index.samples_per_shard)
        return np.diff(np.searchsorted(kept, ends), prepend=0).astype(np.int64)

    def _borders(self, shard: int) -> np.ndarray:
        """Return where the places of a shard begin, and where the last ends: [places + 1] numbers of rows that are read."""
        if shard not in self._borders_of:
            if len(self._borders_of) >= OPEN_SHARDS:
                oldest = next(iter(self._borders_of))
                del self._borders_of[oldest]
                self.index.let_go(oldest)
            rows = self.index.shard_rows(shard)
            if self._kept is not None:
                rows = range(*np.searchsorted(self._kept, [rows.start, rows.stop]).tolist())
            starts = np.arange(rows.start, rows.stop)
            if self._by_study:
                starts = rows.start + study_starts(self.index.records["study"][self._row(starts)])
            self._borders_of[shard] = np.append(starts, rows.stop)
        return self._borders_of[shard]
