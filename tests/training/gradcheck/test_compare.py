"""What a comparison says in words: factors near 1, gradients from nowhere, values that are not finite."""

from __future__ import annotations

import json
from math import inf, nan

import torch

from msvl.training.gradcheck.compare import Measured, Verdict, compare

ONE = {"encoder": [1.0, 2.0], "scale": [3.0, 0.0]}


def verdict(value: float = 2.0, **found: list[float]) -> Verdict:
    """Compare ONE, of value 2, with other gradients."""
    one, many = (
        Measured(
            losses={"loss": loss}, gradients={"loss": {name: torch.tensor(values) for name, values in tree.items()}}
        )
        for loss, tree in ((2.0, ONE), (value, ONE | found))
    )
    return compare(one, many, ranks=4, tolerance=1e-4, groups={name: name for name in ONE})


def test_what_is_right_is_said_so() -> None:
    assert verdict().right
    assert verdict().sentences() == ["4 ranks give the losses and gradients of one process"]


def test_a_small_factor_is_not_said_to_be_one() -> None:
    assert verdict(encoder=[1.002, 2.004]).sentences() == [
        "loss: encoder gradients x 1.002000, scale gradients are exact",
        "loss: the mix with other losses changes with the number of GPUs",
    ]


def test_one_factor_for_all_is_what_adam_hides() -> None:
    said = verdict(encoder=[0.25, 0.5], scale=[0.75, 0.0]).sentences()
    assert said[0] == "loss: encoder gradients x 0.25, scale gradients x 0.25"
    assert said[1].startswith("loss: all by one factor, which Adam hides")


def test_a_gradient_where_there_is_none_is_named() -> None:
    one = Measured(losses={"loss": 2.0}, gradients={"loss": {"encoder": torch.ones(2), "scale": torch.zeros(1)}})
    many = Measured(losses={"loss": 2.0}, gradients={"loss": {"encoder": torch.ones(2), "scale": torch.ones(1)}})
    found = compare(one, many, ranks=2, tolerance=1e-4, groups={"encoder": "encoder", "scale": "scale"})
    assert "scale gradients are not zero, as they are on one process" in found.sentences()[0]
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["lines"][1]["ratio"] is None


def test_what_is_not_finite_is_wrong_and_can_be_stored() -> None:
    found = verdict(nan, encoder=[nan, 2.0])
    assert not found.right
    assert found.sentences() == [
        "loss: the value is nan on 4 ranks and 2 on one",
        "loss: encoder gradients are not finite, scale gradients are exact",
    ]
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["values"] == {"loss": [2.0, None]}


def test_infinite_gradients_hide_nothing() -> None:
    one = Measured(losses={"loss": 2.0}, gradients={"loss": {"encoder": torch.tensor([inf]), "scale": torch.ones(1)}})
    found = compare(one, one, ranks=2, tolerance=1e-4, groups={"encoder": "encoder", "scale": "scale"})
    assert [line.right for line in found.lines] == [False, True]


def test_a_value_from_nothing_is_no_ratio_of_one() -> None:
    none = {"loss": {"encoder": torch.zeros(2)}}
    measured = [Measured(losses={"loss": value}, gradients=none) for value in (0.0, 0.5)]
    found = compare(*measured, ranks=2, tolerance=1e-4, groups={"encoder": "encoder"})
    assert found.table().splitlines()[1].split() == ["loss", "(value)", "inf", "5.0e-01", "WRONG"]
