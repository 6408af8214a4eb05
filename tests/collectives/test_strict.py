"""Where ranks would not do the same, the call itself fails and names both call sites."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msvl.collectives.agree import barrier, from_rank_zero
from msvl.collectives.gather import gather, gather_constant
from msvl.collectives.reduce import mean, total
from msvl.collectives.strict import announce, check_collectives, checked, recording
from msvl.collectives.world import rank
from msvl.config.errors import ClusterError
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.ranks


def _message(kind: str) -> str:
    check_collectives(True)
    local = torch.ones(2, 3)
    try:
        if kind == "order":
            _ = mean(local) if rank() == 0 else gather(local)
        elif kind == "shape":
            gather(local[: 1 + rank()])
        elif kind == "dtype":
            gather_constant(local.double() if rank() else local)
        elif kind == "operation":
            _ = barrier() if rank() else from_rank_zero(1)
        elif kind == "line":
            if rank() == 0:
                total(local)
            else:
                total(local + 1)
        elif kind == "strides":
            total(local.T if rank() else torch.ones(3, 2))
        elif kind == "device":
            total(local.to("meta") if rank() else local)
    except ClusterError as error:
        return str(error)
    finally:
        check_collectives(False)
    return ""


@pytest.mark.evidence(
    "With train.check_collectives a collective that differs between ranks fails at once and names both call sites",
    how="gloo",
)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("order", ("all_reduce sum of float32 [2, 3]", "all_gather of float32 [2, 3]")),
        ("shape", ("all_gather of float32 [1, 3]", "all_gather of float32 [2, 3]")),
        ("dtype", ("all_gather of float32 [2, 3]", "all_gather of float64 [2, 3]")),
        ("operation", ("broadcast_object of object []", "barrier of object []")),
        (
            "line",
            ("rank 0 calls all_reduce sum of float32 [2, 3] at", "rank 1 calls all_reduce sum of float32 [2, 3] at"),
        ),
        ("strides", ("rank 1, all_reduce sum of float32 [3, 2] at", "the tensor is not contiguous")),
        ("device", ("rank 1, all_reduce sum of float32 [2, 3] at", "lies on meta, the process group serves cpu")),
    ],
)
def test_a_difference_is_named_on_every_rank(kind: str, words: tuple[str, str]) -> None:
    for message in run_ranks(2, _message, kind):
        assert all(part in message for part in words), message
        assert "test_strict.py:" in message


def _sound() -> tuple[Tensor, list[str]]:
    check_collectives(True)
    try:
        local = torch.ones(2, requires_grad=True)
        with recording() as calls:
            (gather(local) * (1 + rank())).sum().backward()
            total(torch.ones(1))
            barrier()
        barrier()
        assert checked() == len(calls) + 1
        return local.grad, [call.operation for call in calls]
    finally:
        check_collectives(False)


def test_what_agrees_runs_as_without_the_check() -> None:
    for gradient, operations in run_ranks(2, _sound):
        assert gradient.tolist() == [3.0, 3.0]
        assert operations == ["all_gather", "reduce_scatter", "all_reduce sum", "barrier"]


def test_without_a_process_group_nothing_is_announced() -> None:
    check_collectives(True)
    try:
        with recording() as calls:
            announce("all_gather", torch.ones(2, 3).T)
        assert (calls, checked()) == ([], 0)
    finally:
        check_collectives(False)
