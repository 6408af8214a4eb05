"""The order of places as pure functions of (seed, position): no state, so a resume only needs the step.

A place is what an epoch visits once: a study, or a sample. Position q = t * B + p (place p of global batch t) belongs to
canonical lane q mod S. In an epoch of n places that begins at position e * n, with i = q - e * n:

    lane rank i mod S, depth in the lane i // S.

Units (shards, or ranges of places where shards are few) are permuted by (seed, epoch), laid end to end and cut into S
lanes of equal length; a lane is read from its front, its places permuted within windows. Since rank r of W takes the
positions q = r mod W, a lane belongs to one rank where W divides S.

Symbols: n places, S lanes, L depth of a lane, w places of a window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

UNITS_PER_LANE = 8
"""Fewer shards than this many per lane would leave lanes that read the same shard; ranges of places take their part."""
LANE_ATTEMPTS = 20
"""Substitutes of a place come from its own lane this often, then from anywhere: a small set's lane holds a few places."""
_UNITS, _WINDOW, _FILL = 0x0DE5, 0x1A2E, 0xF111
_OPEN_EPOCHS = 3


def rank_positions(step: int, *, global_batch: int, rank: int, world: int) -> range:
    """Return the positions of a rank in a step: p = rank, rank + world, ... of the global batch."""
    return range(step * global_batch + rank, (step + 1) * global_batch, world)


def unit_sizes(shard_places: np.ndarray, lanes: int) -> np.ndarray:
    """Return the places of each unit, in the order of the set: shards, or equal ranges where shards are few.

    Args:
        shard_places: [shards] places of each shard.
        lanes: S.
    """
    count, wanted = int(shard_places.sum()), UNITS_PER_LANE * lanes
    if len(shard_places) >= wanted:
        return np.asarray(shard_places, dtype=np.int64)
    size = -(-count // wanted)
    full, rest = divmod(count, size)
    return np.array([size] * full + [rest] * (rest > 0), dtype=np.int64)


def groups(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the places of equal keys in an array, group by group."""
    order = np.argsort(keys, kind="stable")
    return iter(np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)) if len(keys) else iter(())


class SourceOrder:
    """The endless sequence of one source: epoch after epoch, each visiting every place once."""

    def __init__(self, units: np.ndarray, *, seed: int, source: int, lanes: int, window: int) -> None:
        self.count = int(units.sum())
        """n."""
        self.lanes = lanes
        self._units = units
        self._first = np.cumsum(units) - units
        self._key = (seed, source)
        self._window = window
        # Caches of pure functions; a lane has one window open.
        self._layouts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._shuffles: dict[tuple[int, int, int], np.ndarray] = {}

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ([m] epoch, [m] place in 0 ... n - 1) of [m] positions."""
        epochs, within = np.divmod(positions, self.count)
        return epochs, self._places(epochs, within % self.lanes, within // self.lanes)

    def substitute(self, position: int, attempt: int) -> tuple[int, int]:
        """Return (epoch, place) that fills a position whose place cannot be read, at the given attempt (from 1).

        It lies in the same lane, and moves no other place.
        """
        epoch, within = divmod(position, self.count)
        draw = np.random.Generator(np.random.PCG64([*self._key, epoch, position, attempt, _FILL]))
        lane = within % self.lanes if attempt <= LANE_ATTEMPTS else int(draw.integers(min(self.lanes, self.count)))
        length, _ = self._lane(np.array([lane]))
        depth = draw.integers(length)
        return epoch, int(self._places(np.array([epoch]), np.array([lane]), depth)[0])

    def _lane(self, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ([m] length, [m] start among the units laid end to end)."""
        short, longer = divmod(self.count, self.lanes)
        return short + (lanes < longer), lanes * short + np.minimum(lanes, longer)

    def _places(self, epochs: np.ndarray, lanes: np.ndarray, depths: np.ndarray) -> np.ndarray:
        length, start = self._lane(lanes)
        number, begin, end = self._windows(lanes, depths, length)
        laid = start + begin
        for members in groups((epochs * self.lanes + lanes) * (int(number.max(initial=0)) + 1) + number):
            one = members[0]
            shuffle = self._shuffle(int(epochs[one]), int(lanes[one]), int(number[one]), int(end[one] - begin[one]))
            laid[members] += shuffle[depths[members] - begin[members]]
        places = np.empty_like(laid)
        for members in groups(epochs):
            order, starts = self._layout(int(epochs[members[0]]))
            unit = np.searchsorted(starts, laid[members], side="right") - 1
            places[members] = self._first[order[unit]] + laid[members] - starts[unit]
        return places

    def _windows(
        self, lanes: np.ndarray, depths: np.ndarray, length: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return number, begin and end of the window of each depth.

        The first has w/2 to 3w/2 places, growing with the lane, so that lanes do not turn to new shards in the same step; the
        last takes a rest below w/2.
        """
        first = self._window // 2 + self._window * lanes // self.lanes + 1
        last = np.maximum(0, (length - first + self._window // 2) // self._window)
        number = np.clip((depths - first) // self._window + 1, 0, last)
        begin = np.where(number == 0, 0, first + (number - 1) * self._window)
        end = np.where(number == last, length, first + number * self._window)
        return number, begin, end

    def _layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ([units] order, [units] where each begins) of an epoch."""
        if epoch not in self._layouts:
            _make_room(self._layouts, _OPEN_EPOCHS)
            order = _generator(*self._key, epoch, _UNITS).permutation(len(self._units))
            sizes = self._units[order]
            self._layouts[epoch] = order, np.cumsum(sizes) - sizes
        return self._layouts[epoch]

    def _shuffle(self, epoch: int, lane: int, number: int, size: int) -> np.ndarray:
        """Return the order of a window's places: [size] int32."""
        key = epoch, lane, number
        if key not in self._shuffles:
            _make_room(self._shuffles, 2 * self.lanes)
            self._shuffles[key] = _generator(*self._key, *key, _WINDOW).permutation(size).astype(np.int32)
        return self._shuffles[key]


def step_draw(seed: int, step: int) -> float:
    """Return the uniform number in [0, 1) by which all ranks decide what a step reads."""
    return float(_generator(seed, step, 0x57E9).random())


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(key)))


def _make_room(cache: dict, entries: int) -> None:
    if len(cache) >= entries:
        del cache[next(iter(cache))]
