"""Where a finding is seen, in a world whose answer is known: one bright patch."""

from __future__ import annotations

import torch

from msvl.evaluation.finding_maps import finding_maps
from msvl.evaluation.prompts import FindingPrompts, PromptSet
from tests.evaluation.toy import GRID, PLACES, ToyModel, ToyTokeniser, toy_set

PROMPTS = PromptSet(
    {
        "clear": FindingPrompts(("lungs clear",), ("a spot", "There is a spot.")),
        "spot": FindingPrompts(("There is a spot.", "a spot"), ("No spot.",)),
    },
    origin="test",
)
SET = toy_set(20)


def test_the_map_is_highest_at_the_spot_and_lowest_where_the_opposite_is_asked_for() -> None:
    rows = [row for row in range(20) if SET.labels["spot"][row]]
    wanted = [(SET.images[row], finding) for row in rows for finding in ("spot", "clear")]
    maps = finding_maps(ToyModel(), ToyTokeniser(), PROMPTS, wanted, batch_size=3)
    for row, spot, clear in zip(rows, maps[0::2], maps[1::2], strict=True):
        assert spot.shape == (GRID, GRID)
        assert int(spot.argmax()) == row % PLACES == int(clear.argmin())


def test_the_map_is_positive_minus_negative_side() -> None:
    one = PromptSet({"spot": FindingPrompts(("a spot",), ("a spot",))}, origin="test")
    (same,) = finding_maps(ToyModel(), ToyTokeniser(), one, [(SET.images[1], "spot")], batch_size=1)
    assert torch.equal(same, torch.zeros(GRID, GRID))


def test_a_finding_without_prompts_has_no_map() -> None:
    wanted = [(SET.images[1], "fracture"), (SET.images[1], "spot")]
    none, some = finding_maps(ToyModel(), ToyTokeniser(), PROMPTS, wanted, batch_size=4)
    assert none is None and some is not None
    assert finding_maps(ToyModel(), ToyTokeniser(), PROMPTS, wanted[:1], batch_size=4) == [None]
