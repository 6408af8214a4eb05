"""The same configuration and seed on 1, 2 and 4 ranks, and with 1, 2 and 4 micro-batches, is the same run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.runs import launch, losses, tiny_config

STEPS = 50
CASES = {"two-ranks": (2, 8), "four-ranks": (4, 4), "two-micro-batches": (1, 8), "two-ranks-four-micro-batches": (2, 2)}
"""Ranks and pairs per micro-batch of a global batch of 16."""


def trained(data: Path, runs: Path, name: str, *, ranks: int, micro: int) -> list[tuple[int, dict[str, float], int]]:
    train = {"steps": STEPS, "global_batch": 16, "micro_batch": micro}
    config = tiny_config(
        runs / f"{name}.yaml", data=data, runs=runs, name=name, train=train, optimizer={"lr": 5e-4, "warmup_steps": 5},
    )  # fmt: skip
    done = launch(config, ranks=ranks)
    assert done.code == 0, done.output[-3000:]
    return losses(runs / name)


@pytest.fixture(scope="module")
def one(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, dict[str, float], int]]:
    return trained(tiny_set, tmp_path_factory.mktemp("one"), "one", ranks=1, micro=16)


@pytest.mark.ranks
@pytest.mark.evidence(
    "The same configuration and seed on 1, 2 and 4 ranks, and with 1, 2 and 4 micro-batches, gives the same samples and, "
    "to 1e-4, the same losses for 50 steps",
    how="gloo",
)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if "four-micro" in case else case for case in CASES]
)
def test_the_run_does_not_depend_on_the_number_of_ranks(
    case: str, one: list[tuple[int, dict[str, float], int]], tiny_set: Path, tmp_path: Path
) -> None:
    ranks, micro = CASES[case]
    many = trained(tiny_set, tmp_path, case, ranks=ranks, micro=micro)
    assert [step for step, _, _ in many] == [step for step, _, _ in one] == list(range(1, STEPS + 1))
    assert [digest for _, _, digest in many] == [digest for _, _, digest in one]
    for (step, found, _), (_, expected, _) in zip(many, one, strict=True):
        for name, value in expected.items():
            assert abs(found[name] - value) <= 1e-4 * abs(value), f"step {step}, {name}: {found[name]} and {value}"
    assert one[-1][1]["loss/total"] < 0.95 * one[0][1]["loss/total"], "it trained"
