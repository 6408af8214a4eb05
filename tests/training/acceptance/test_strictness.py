"""The acceptance sees whether the strict check of collectives bites."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from msvl.training.acceptance import strictness
from tests.helpers.ranks import run_ranks

CPU = torch.device("cpu")


def missed() -> list[str]:
    return strictness.missed_differences(CPU)


def missed_with_a_check_that_sleeps() -> list[str]:
    with mock.patch.object(strictness, "_is_refused", lambda call: False):
        return strictness.missed_differences(CPU)


@pytest.mark.ranks
@pytest.mark.evidence(
    "The acceptance plants differences between ranks, each of which the strict check refuses", how="gloo"
)
def test_every_planted_difference_is_refused_on_all_ranks() -> None:
    assert run_ranks(2, missed) == [[], []]


@pytest.mark.ranks
def test_a_check_that_does_not_bite_is_seen() -> None:
    expected = ["shape", "dtype", "order", "memory layout"]
    assert run_ranks(2, missed_with_a_check_that_sleeps) == [expected, expected]
