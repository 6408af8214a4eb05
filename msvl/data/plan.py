"""What every position of a run reads: sources, epochs and rows of their indexes. A pure function of manifests and options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from msvl.data.mixing import Mix
from msvl.data.order import SourceOrder, groups, unit_sizes
from msvl.data.places import Places


class Located(NamedTuple):
    """Where [m] positions lie."""

    sources: np.ndarray
    """[m] source."""
    epochs: np.ndarray
    """[m] epoch of that source: keys the augmentation, and the draw of a study's image."""
    rows: np.ndarray
    """[m] row of the source's index."""


class Plan:
    """The planned sequence of one or several sources."""

    def __init__(
        self,
        sources: Sequence[Places],
        weights: Sequence[float],
        *,
        seed: int,
        lanes: int,
        window: int,
        epoch_samples: int | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.seed = seed
        self.lanes = lanes
        self.samples = sum(len(places.index) for places in sources)
        """Samples in all sources together, read or not."""
        self._orders = [
            SourceOrder(unit_sizes(places.per_shard, lanes), seed=seed, source=number, lanes=lanes, window=window)
            for number, places in enumerate(sources)
        ]
        self._mix = Mix(weights, lanes)
        self.epoch_places = epoch_samples or sum(order.count for order in self._orders)
        """Positions that are called an epoch: all places of all sources once, or a declared number."""

    def locate(self, positions: np.ndarray) -> Located:
        """Return where [m] positions lie, before any of them is filled by a substitute."""
        sources, within = self._mix.locate(positions)
        epochs, rows = np.empty_like(within), np.empty_like(within)
        for members in groups(sources):
            source = int(sources[members[0]])
            epochs[members], places = self._orders[source].locate(within[members])
            rows[members] = self.sources[source].rows(places, epochs[members])
        return Located(sources, epochs, rows)

    def substitute(self, position: int, attempt: int) -> tuple[int, int, int]:
        """Return (source, epoch, row) that fills a position at the given attempt (from 1): of its source and lane."""
        sources, within = self._mix.locate(np.array([position]))
        source = int(sources[0])
        epoch, place = self._orders[source].substitute(int(within[0]), attempt)
        return source, epoch, int(self.sources[source].rows(np.array([place]), np.array([epoch]))[0])
