"""The order of samples is a pure function of seed and position."""

from __future__ import annotations

import numpy as np
import pytest

from msvl.data.order import permutation, rank_positions, sample_at, sample_rng, substitute


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    epochs = [permutation(0, epoch, 50) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(permutation(1, 0, 50), epochs[0])


def test_an_epoch_of_positions_visits_every_sample_once_across_batch_borders() -> None:
    assert sorted(sample_at(position, seed=3, count=13) for position in range(13, 26)) == list(range(13))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_a_batch_without_overlap(world: int) -> None:
    shares = [list(rank_positions(5, global_batch=8, rank=rank, world=world)) for rank in range(world)]
    assert sorted(sum(shares, [])) == list(range(40, 48))
    assert all(position % world == rank for rank, share in enumerate(shares) for position in share)


def test_substitutes_and_augmentation_repeat() -> None:
    assert substitute(7, 1, seed=0, count=100) == substitute(7, 1, seed=0, count=100)
    assert len({substitute(7, attempt, seed=0, count=10**6) for attempt in range(1, 9)}) == 8
    assert sample_rng(0, 1, 5, 0).random() == sample_rng(0, 1, 5, 0).random()
    assert sample_rng(0, 1, 5, 0).random() != sample_rng(0, 2, 5, 0).random()
