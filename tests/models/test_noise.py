"""The counter-based hash: uniform, keyed, the same everywhere."""

from __future__ import annotations

import torch

from msvl.models.noise import hash_uniform


def test_values_are_uniform_in_the_half_open_unit_interval() -> None:
    drawn = hash_uniform(0, 3, torch.arange(400).unsqueeze(1), torch.arange(500).unsqueeze(0))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=50, min=0, max=1)
    chi_square = ((counts - 4000) ** 2 / 4000).sum()
    # 49 degrees of freedom: mean 49, standard deviation 9.9.
    assert 20 < chi_square < 100


def test_neighbouring_keys_are_uncorrelated() -> None:
    drawn = hash_uniform(0, torch.arange(300).unsqueeze(1), torch.arange(300).unsqueeze(0))
    for one, other in ((drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1])):
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        # Standard deviation under independence: 1 / sqrt(89,700) = 0.0033.
        assert abs(correlation) < 0.015


def test_every_key_and_the_order_of_keys_matter() -> None:
    base = hash_uniform(1, 2, torch.tensor([3]))
    assert hash_uniform(1, 2, torch.tensor([3])) == base
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3), (1, 2)):
        assert hash_uniform(*other) != base


def test_a_tensor_key_gives_what_its_integers_give() -> None:
    ids = torch.tensor([0, 5, 2**62 + 11])
    assert torch.equal(hash_uniform(9, ids, 4), torch.stack([hash_uniform(9, int(number), 4) for number in ids]))


def test_values_are_fixed_for_all_time() -> None:
    # A change would silently change every run that is resumed.
    drawn = hash_uniform(0, 0, torch.arange(3))
    assert (drawn * 2**24).long().tolist() == [2327157, 4332975, 9644222]
