"""The references of the acceptance, and what counts as near enough to them. The ranks themselves: tests/launch/acceptance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from msvl.config.load import check_config, load_config
from msvl.training.acceptance.exact import judge_case, measure_references, with_case
from msvl.training.config import PretrainConfig
from msvl.training.gradcheck.compare import Measured
from msvl.training.gradcheck.sizes import pairs_for, shrink
from tests.helpers.runs import ROOT

WORLD = 2


@pytest.fixture(scope="module")
def config() -> PretrainConfig:
    shipped = load_config(str(ROOT / "configs/pretrain/quickstart.yaml"), [], PretrainConfig)
    return check_config(shrink(shipped.model_dump(mode="json", by_alias=True)), PretrainConfig, where="small")


@pytest.fixture(scope="module")
def references(config: PretrainConfig) -> dict[str, Measured]:
    return measure_references(config, pairs_for(WORLD), torch.device("cpu"))


def test_one_reference_is_float64_throughout_and_both_agree(references: dict[str, Measured]) -> None:
    exact, device = references["CPU float64"], references["one device"]
    assert {one.dtype for parts in exact.gradients.values() for one in parts.values()} == {torch.float64}
    assert {one.dtype for parts in device.gradients.values() for one in parts.values()} == {torch.float32}
    for name, value in exact.losses.items():
        assert device.losses[name] == pytest.approx(value, rel=1e-5)
        assert value != device.losses[name], "float64 that was rounded to float32 on the way is no reference"


def changed(one: Measured, **losses: float) -> Measured:
    return replace(one, losses=one.losses | losses)


def test_a_world_that_finds_the_same_is_right(config: PretrainConfig, references: dict[str, Measured]) -> None:
    case = judge_case(with_case(config, 2, "fp32", 8), references["one device"], WORLD, references)
    assert case.right
    assert case.against["CPU float64"]["gradient"] < 1e-4


@pytest.mark.parametrize(("precision", "off"), [("fp32", 3e-4), ("bf16", 0.03)])
def test_a_loss_that_is_off_is_wrong(
    config: PretrainConfig, references: dict[str, Measured], precision: str, off: float
) -> None:
    one = references["one device"]
    many = changed(one, total=one.losses["total"] * (1 + off))
    case = judge_case(with_case(config, 2, precision, 8), many, WORLD, references)  # type: ignore[arg-type]
    assert not case.right
    assert case.against["CPU float64"]["worst_loss"] == "total"
    assert case.against["CPU float64"]["words"][0].startswith("total: the value is")


@pytest.mark.parametrize(
    ("precision", "factor", "right"), [("fp32", 1.001, False), ("bf16", 1.1, True), ("bf16", 1.5, False)]
)
def test_gradients_that_are_off(
    config: PretrainConfig, references: dict[str, Measured], precision: str, factor: float, right: bool
) -> None:
    one = references["one device"]
    many = replace(one, gradients={n: {k: factor * g for k, g in parts.items()} for n, parts in one.gradients.items()})
    case = judge_case(with_case(config, 3, precision, 8), many, WORLD, references)  # type: ignore[arg-type]
    assert case.right is right
    assert case.against["CPU float64"]["gradient"] == pytest.approx(factor - 1, rel=1e-2)


def test_what_is_no_number_is_wrong(config: PretrainConfig, references: dict[str, Measured]) -> None:
    one = references["one device"]
    nothing = {n: {k: g * float("nan") for k, g in parts.items()} for n, parts in one.gradients.items()}
    many = Measured(losses=dict.fromkeys(one.losses, float("nan")), gradients=nothing)
    case = judge_case(with_case(config, 0, "bf16", 8), many, WORLD, references)
    assert not case.right
    assert case.against["CPU float64"]["loss"] is None
    assert case.against["CPU float64"]["gradient"] is None


@pytest.mark.parametrize(("world", "pairs"), [(1, 8), (2, 8), (3, 9), (8, 16), (64, 128)])
def test_every_rank_has_at_least_two_pairs(world: int, pairs: int) -> None:
    assert pairs_for(world) == pairs
