"""How fast ranks reach each other: right sums, every link, and a wrong sum is an error and no bandwidth."""

from __future__ import annotations

from dataclasses import asdict
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from msvl.collectives.links import SENT, latency_seconds, operation_bandwidths, ring_links
from tests.helpers.ranks import run_ranks

CPU = torch.device("cpu")


def measured() -> tuple[dict[str, float], float, list[dict]]:
    return operation_bandwidths(60_000, CPU), latency_seconds(CPU), [asdict(link) for link in ring_links(20_000, CPU)]


@pytest.mark.ranks
@pytest.mark.parametrize("world", [2, 3])
def test_all_operations_and_links_are_measured_alike_on_all_ranks(world: int) -> None:
    found = run_ranks(world, measured)
    assert all(one == found[0] for one in found), "the slowest rank's time counts, so all know the same"
    operations, latency, links = found[0]
    assert set(operations) == set(SENT)
    assert all(0 < value < 1e3 for value in operations.values())
    assert 0 < latency < 1
    assert [(link["source"], link["target"]) for link in links] == [(r, (r + 1) % world) for r in range(world)]
    assert all(0 < link["gb_per_second"] < 1e3 for link in links)


def deaf() -> str:
    true = dist.all_reduce

    def lossy(tensor: torch.Tensor, *words: object, **more: object) -> None:
        true(tensor, *words, **more)
        if tensor.numel() > 100:
            tensor[3] += 1

    with mock.patch.object(dist, "all_reduce", lossy):
        try:
            operation_bandwidths(60_000, CPU)
        except ArithmeticError as error:
            return str(error)
    return "nothing"


@pytest.mark.ranks
def test_a_wrong_sum_is_an_error() -> None:
    assert run_ranks(2, deaf) == ["all_reduce on 2 ranks gives 4 instead of 3 in place 3"] * 2


def alone() -> list:
    return ring_links(20_000, CPU)


@pytest.mark.ranks
def test_one_rank_has_no_links() -> None:
    assert run_ranks(1, alone) == [[]]
