"""The order of places is a pure function of seed and position, and the one that the documentation describes."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from msvl.config.errors import ClusterError
from msvl.data.lanes import check_world, readers
from msvl.data.mixing import SLOTS, Mix, schedule
from msvl.data.order import SourceOrder, rank_positions, unit_sizes

SHAPES = [  # places of each shard, lanes, window
    ([13], 4, 8),
    ([3], 8, 4096),
    ([40, 1, 25, 34], 3, 4),
    ([7, 5, 9, 6, 8] * 8, 4, 6),
    ([1000, 999], 16, 5),
]


def order_of(shards: list[int], lanes: int, window: int, seed: int = 3) -> SourceOrder:
    return SourceOrder(unit_sizes(np.array(shards), lanes), seed=seed, source=0, lanes=lanes, window=window)


def plain_epoch(shards: list[int], lanes: int, window: int, *, seed: int, epoch: int) -> list[int]:
    """Write an epoch down as the description says it: units, lanes, windows, then deal the lanes in turn."""

    def shuffled(items: list, *key: int) -> list:
        return [items[n] for n in np.random.Generator(np.random.PCG64([seed, 0, epoch, *key])).permutation(len(items))]

    n = sum(shards)
    if len(shards) < 8 * lanes:
        size = -(-n // (8 * lanes))
        shards = [size] * (n // size) + ([n % size] if n % size else [])
    units, place = [], 0
    for count in shards:
        units.append(list(range(place, place + count)))
        place += count
    line = [place for unit in shuffled(units, 0x0DE5) for place in unit]
    dealt: dict[int, int] = {}
    for lane in range(lanes):
        length = n // lanes + (lane < n % lanes)
        mine, line = line[:length], line[length:]
        ends = [window // 2 + window * lane // lanes + 1]
        while length - ends[-1] >= window - window // 2:
            ends.append(ends[-1] + window)
        ends[-1] = length
        begin, result = 0, []
        for number, end in enumerate(ends):
            result += shuffled(mine[begin:end], lane, number, 0x1A2E)
            begin = end
        for depth, place in enumerate(result):
            dealt[depth * lanes + lane] = place
    return [dealt[i] for i in range(n)]


@pytest.mark.parametrize(("shards", "lanes", "window"), SHAPES)
def test_order_is_that_of_a_plain_description(shards: list[int], lanes: int, window: int) -> None:
    order, n = order_of(shards, lanes, window), sum(shards)
    for epoch in (0, 5):
        epochs, places = order.locate(np.arange(epoch * n, (epoch + 1) * n))
        assert set(epochs) == {epoch}
        assert places.tolist() == plain_epoch(shards, lanes, window, seed=3, epoch=epoch)


@pytest.mark.evidence("Every epoch visits every place exactly once, for any number of shards and lanes", how="cpu")
@pytest.mark.parametrize(("shards", "lanes", "window"), SHAPES)
def test_every_epoch_is_exact_and_another(shards: list[int], lanes: int, window: int) -> None:
    order, n = order_of(shards, lanes, window), sum(shards)
    _, places = order.locate(np.arange(4 * n))
    epochs = places.reshape(4, n)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()
    if n > 3:
        assert len({tuple(epoch) for epoch in epochs}) == 4
        assert not np.array_equal(order_of(shards, lanes, window, seed=4).locate(np.arange(n))[1], epochs[0])


def test_positions_can_be_asked_in_any_order_and_number() -> None:
    order = order_of([40, 1, 25, 34], 3, 4)
    wanted = np.random.default_rng(0).permutation(500)
    _, together = order.locate(wanted)
    alone = [int(order_of([40, 1, 25, 34], 3, 4).locate(np.array([q]))[1][0]) for q in wanted[:60]]
    assert together[:60].tolist() == alone
    assert np.array_equal(order.locate(np.arange(500))[1][wanted], together)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_a_batch_without_overlap(world: int) -> None:
    shares = [list(rank_positions(5, global_batch=8, rank=rank, world=world)) for rank in range(world)]
    assert sorted(sum(shares, [])) == list(range(40, 48))
    assert all(position % world == rank for rank, share in enumerate(shares) for position in share)


@pytest.mark.evidence(
    "Where the ranks divide the lanes every place is read once per epoch over the cluster, and each rank reads few shards",
    how="cpu",
)
@pytest.mark.parametrize(("world", "most"), [(4, 1), (8, 1), (16, 2), (24, 3)])
def test_ranks_that_read_a_lane(world: int, most: int) -> None:
    lanes, shards = 8, [20] * 64
    order = order_of(shards, lanes, 50)
    n = sum(shards)
    readers_of: list[set[int]] = [set() for _ in shards]
    _, places = order.locate(np.arange(n))
    for position, place in enumerate(places):
        readers_of[place // 20].add(position % world)
    assert readers(world, lanes) == most
    # A shard lies in one lane, or in two where the cut goes through it.
    assert max(map(len, readers_of)) <= 2 * most
    whole = [len(found) for found in readers_of].count(most)
    assert whole >= len(shards) - (lanes - 1)


def test_a_lane_reads_its_units_from_front_to_back() -> None:
    lanes, window = 4, 32
    order = order_of([16] * 64, lanes, window)
    _, places = order.locate(np.arange(1024))
    for lane in range(lanes):
        shards = places[lane::lanes] // 16
        first, last = {}, {}
        for depth, shard in enumerate(shards.tolist()):
            first.setdefault(shard, depth)
            last[shard] = depth
        # The places of a shard lie within two windows: it is read in one go and then let go.
        assert max(last[shard] - first[shard] for shard in first) < 2 * 2 * window


def test_windows_of_the_lanes_do_not_turn_over_together() -> None:
    order = order_of([2000] * 64, 8, 100)
    lanes = np.arange(8)
    borders = []
    for lane in lanes:
        depths = np.arange(2000)
        length, _ = order._lane(np.full(2000, lane))
        number, _, _ = order._windows(np.full(2000, lane), depths, length)
        borders.append(set(np.flatnonzero(np.diff(number)) % 100))
    assert len(set.union(*borders)) == 8


def test_substitutes_repeat_and_stay_in_their_lane() -> None:
    order, again = order_of([20] * 64, 8, 50), order_of([20] * 64, 8, 50)
    _, places = order.locate(np.arange(1280))
    lane_of = {int(place): position % 8 for position, place in enumerate(places)}
    for position in (1, 700, 1279):
        filled = [order.substitute(position, attempt) for attempt in range(1, 16)]
        assert filled == [again.substitute(position, attempt) for attempt in range(1, 16)]
        assert {lane_of[place] for _, place in filled} == {position % 8}
        assert len(set(filled)) > 10
        assert {epoch for epoch, _ in filled} == {0}


def test_a_lane_of_one_place_is_filled_from_others_in_the_end() -> None:
    order = order_of([5], 8, 4)
    assert {order.substitute(2, attempt)[1] for attempt in range(1, 90)} == set(range(5))


def test_a_position_far_into_a_huge_set_is_found_at_once() -> None:
    began = time.perf_counter()
    order = order_of([10_000] * 10_000, 512, 4096)
    order.locate(np.arange(3 * 10**8 + 17, 3 * 10**8 + 17 + 4096))
    assert time.perf_counter() - began < 1.0  # the promise; it takes a tenth of that


@pytest.mark.parametrize(
    ("world", "batch", "lanes", "message"),
    [
        (3, 12, 64, r"3 ranks do not fit data.lanes=64: 3 of them.*Use 2 or 4 ranks.*data.lanes=63 or 66"),
        (256, 4096, 64, r"4 of them would read the same lane.*Use 128 ranks.*data.lanes=128"),
    ],
)
def test_ranks_that_do_not_fit_are_refused(world: int, batch: int, lanes: int, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        check_world(world, global_batch=batch, lanes=lanes)


@pytest.mark.parametrize("world", [1, 2, 4, 8, 16, 32, 64, 128])
def test_ranks_that_fit(world: int) -> None:
    check_world(world, global_batch=4096, lanes=64)


@pytest.mark.evidence("Mixed sources keep their weights in every thousand samples of a lane, and in a batch", how="cpu")
def test_shares_of_mixed_sources() -> None:
    weights, lanes = [0.6, 0.3, 0.1], 16
    counts = Counter(schedule(weights).tolist())
    assert [counts[source] for source in range(3)] == [600, 300, 100]
    sources, _ = Mix(weights, lanes).locate(np.arange(lanes * 4000))
    for lane in range(lanes):
        mine = sources[lane::lanes]
        for start in (0, 700, 2345):
            assert np.bincount(mine[start : start + SLOTS], minlength=3).tolist() == [600, 300, 100]
    batches = np.array([np.bincount(batch, minlength=3) for batch in sources.reshape(-1, 128)])
    assert np.abs(batches / 128 - weights).max() < 0.06


@pytest.mark.evidence("A source that is drawn more often passes through epochs of its own, each complete", how="cpu")
def test_a_mixed_source_is_read_position_by_position() -> None:
    lanes = 8
    sources, positions = Mix([5.0, 1.0], lanes).locate(np.arange(lanes * 3000))
    small = order_of([50], lanes, 10)
    for source in (0, 1):
        mine = positions[sources == source]
        assert len(np.unique(mine)) == len(mine)
        # Lanes are never more than a slot or two apart: every position so far but the last few of each lane.
        complete = len(mine) // 50 - 1
        assert set(range(complete * 50)) <= set(mine.tolist())
        epochs, places = small.locate(mine)
        for epoch in range(complete):
            assert sorted(places[epochs == epoch]) == list(range(50))
    _, lanes_of = np.divmod(np.arange(lanes * 3000), lanes)
    assert np.array_equal(positions % lanes, lanes_of)


def test_one_source_alone_is_its_own_sequence() -> None:
    sources, positions = Mix([2.5], 8).locate(np.arange(10_000))
    assert not sources.any()
    assert np.array_equal(positions, np.arange(10_000))
