"""Random numbers of samples: even, and different wherever anything differs."""

from __future__ import annotations

import numpy as np

from msvl.data.draws import AUGMENTATION, SENTENCES, stream_states, uniform


def numbers(seed: int = 0, epoch: int = 0, *, stream: int = AUGMENTATION, samples: int = 20_000) -> np.ndarray:
    states = stream_states(seed, np.full(samples, epoch), np.arange(samples), stream)
    return uniform(states[:, None], np.arange(6))


def test_they_are_even_and_do_not_depend_on_each_other() -> None:
    found = numbers()
    assert found.min() >= 0 and found.max() < 1
    counts, _ = np.histogram(found, bins=50, range=(0, 1))
    expected = found.size / 50
    assert ((counts - expected) ** 2 / expected).sum() < 95, "chi-squared, 49 degrees of freedom: beyond one in 10,000"
    correlations = np.corrcoef(np.column_stack([found[:-1], found[1:]]), rowvar=False) - np.eye(12)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(found))


def test_seed_epoch_sample_and_stream_each_give_others() -> None:
    first = numbers()
    assert np.array_equal(first, numbers())
    for other in (numbers(seed=1), numbers(epoch=1), numbers(stream=SENTENCES), np.roll(first, 1, axis=0)):
        assert np.isclose(first, other).mean() < 1e-3
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02


def test_a_sample_has_its_numbers_in_any_batch() -> None:
    states = stream_states(3, np.array([4, 7]), np.array([10, 2**62]), SENTENCES)
    alone = stream_states(3, np.array([7]), np.array([2**62]), SENTENCES)
    assert states[1] == alone[0]
