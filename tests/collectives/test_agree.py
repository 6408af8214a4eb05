"""Decisions that all ranks take together."""

from __future__ import annotations

import pytest

from msvl.collectives.agree import all_objects, any_rank, barrier, first_message, from_rank_zero
from msvl.collectives.world import is_distributed, rank, world_size
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.ranks


def _everything() -> dict[str, object]:
    barrier()
    return {
        "one": any_rank(rank() == 1),
        "none": any_rank(False),
        "message": first_message("the disk is full" if rank() == 1 else None),
        "silence": first_message(None),
        "objects": all_objects({"rank": rank()}),
        "zero": from_rank_zero(f"said by {rank()}"),
        "world": (is_distributed(), world_size()),
    }


def test_every_rank_hears_the_same() -> None:
    expected = {
        "one": True,
        "none": False,
        "message": "rank 1: the disk is full",
        "silence": None,
        "objects": [{"rank": 0}, {"rank": 1}],
        "zero": "said by 0",
        "world": (True, 2),
    }
    assert run_ranks(2, _everything) == [expected, expected]


def test_alone_one_decides_for_oneself() -> None:
    assert any_rank(True)
    assert not any_rank(False)
    assert first_message("the disk is full") == "the disk is full"
    assert all_objects(3) == [3]
    assert from_rank_zero(3) == 3
    assert (is_distributed(), rank(), world_size()) == (False, 0, 1)
    barrier()
