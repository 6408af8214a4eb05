"""The helper itself: a test that hangs or passes in spite of a failing rank would prove nothing."""

from __future__ import annotations

import os
import time

import pytest
import torch

from msvl.collectives.reduce import total
from msvl.collectives.world import rank, world_size
from tests.helpers.ranks import RankError, run_ranks

pytestmark = pytest.mark.ranks


def _who(offset: int) -> tuple[int, int, float, int]:
    summed = total(torch.tensor([float(rank() + offset)]))
    return rank(), world_size(), float(summed), os.getpid()


def _fail_on_one() -> None:
    if rank() == 1:
        raise KeyError("the second rank's own words")
    total(torch.zeros(1))  # waits for a rank that never comes


def _die_on_one() -> None:
    if rank() == 0:
        os._exit(7)


def _hang_on_one() -> None:
    if rank() == 0:
        time.sleep(100)


def test_results_come_in_rank_order_from_processes_that_talk_to_each_other_and_are_kept() -> None:
    first = run_ranks(2, _who, 10)
    second = run_ranks(2, _who, 20)
    assert [answer[:3] for answer in first] == [(0, 2, 21.0), (1, 2, 21.0)]
    assert [answer[:3] for answer in second] == [(0, 2, 41.0), (1, 2, 41.0)]
    assert [answer[3] for answer in first] == [answer[3] for answer in second]


@pytest.mark.parametrize(
    ("function", "limit", "words"),
    [
        (_fail_on_one, 60, "rank 1:(.|\n)*_fail_on_one(.|\n)*the second rank's own words"),
        (_die_on_one, 60, "rank 0:\nthe process died with exit code 7"),
        (_hang_on_one, 2, r"no answer from ranks \[0\]"),
    ],
)
def test_a_rank_that_fails_is_named_and_the_next_call_works(function, limit: float, words: str) -> None:
    run_ranks(2, _who, 0)  # the limit below does not pay for a start
    with pytest.raises(RankError, match=words):
        run_ranks(2, function, timeout=limit)
    assert len(run_ranks(2, _who, 0)) == 2
