"""N ranks give the loss and the gradients that one rank gives on the same global batch: real processes, real gloo."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from msvl.collectives.world import rank, world_size
from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.gathering import gather_embeddings
from msvl.objectives.scale import StepContext
from msvl.objectives.total import Objectives
from msvl.training.gradcheck.made_up import DUPLICATES, Sizes, make_embeddings, make_ids, rows_of
from msvl.training.gradcheck.suite import STEPS, measure_objectives
from tests.helpers.ranks import run_ranks

OFF = {name: {"weight": 0} for name in ("global", "local", "instance", "modality")}
SCALES: dict[str, dict[str, Any]] = {
    "global": {"global": {"weight": 1}},
    "global_sigmoid": {"global": {"weight": 1, "loss": "sigmoid", "temperature": 0.1}},
    "local": {"local": {"weight": 1, "tile": 3}},
    "local_unit_length": {"local": {"weight": 1, "unit_length": True}},
    "local_patches": {"local": {"weight": 1, "tile": 5, "normalise_over": "patches"}},
    "local_mean": {"local": {"weight": 1, "aggregation": "mean"}},
    "further_positives": {
        "global": {"weight": 1, "duplicates": "positive"},
        "local": {"weight": 1, "duplicates": "positive"},
    },
    "sigmoid_positives": {"global": {"weight": 1, "loss": "sigmoid", "duplicates": "positive"}},
    "instance": {"instance": {"weight": 1, "width": 5}},
    "modality": {"modality": {"weight": 1}},
    "modality_cross_sample": {"modality": {"weight": 1, "cross_sample_weight": 0.3}},
    "duplicates_kept": {
        "global": {"weight": 1, "duplicates": "keep"},
        "local": {"weight": 1, "duplicates": "keep"},
        "instance": {"weight": 1, "duplicates": "keep"},
        "modality": {"weight": 1, "cross_sample_weight": 0.3, "duplicates": "keep"},
    },
    "all_four": {
        "global": {"weight": 1.0},
        "local": {"weight": 0.7, "tile": 3},
        "instance": {"weight": 1.3},
        "modality": {"weight": 0.9, "cross_sample_weight": 0.3},
    },
}
CASES = [(scale, duplicates) for scale in SCALES for duplicates in DUPLICATES]


def losses_and_gradients(scale: str, duplicates: str) -> dict[str, Any]:
    """Collective. Compute this rank's share of what `gradcheck.suite` measures of anybody's objective."""
    tree = {**OFF, **SCALES[scale]}
    found = measure_objectives(tree, duplicates)
    return {
        "values": found.losses,
        "gradients": found.gradients["total"],
        "negatives": _negatives(tree, duplicates) if scale == "instance" else {},
    }


def _negatives(tree: dict[str, Any], duplicates: str) -> dict[str, Tensor]:
    """Return sample ids: for every anchor of this rank, by id, what was drawn for it (-1 for nothing)."""
    sizes = Sizes()
    rows = torch.arange(rank(), sizes.pairs, world_size())
    share, ids = rows_of(make_embeddings(sizes), rows), rows_of(make_ids(sizes.pairs, duplicates), rows)
    objectives = Objectives(ObjectivesConfig(**tree), channels=sizes.channels, seed=1)
    gathered = gather_embeddings(share, ids, sentences=False)
    context = StepContext(embeddings=share, ids=ids, gathered=gathered, step=STEPS[duplicates])
    drawn = objectives.scales["instance_scale"].negatives(context)
    return {
        f"{number}/{int(ids.sample[i])}": torch.where(valid[i], gathered.ids.sample[chosen[i]], -1)
        for number, (chosen, valid) in enumerate(drawn)
        for i in range(len(rows))
    }


def every_case() -> dict[tuple[str, str], dict[str, Any]]:
    return {case: losses_and_gradients(*case) for case in CASES}


@cache
def computed(world: int) -> list[dict[tuple[str, str], dict[str, Any]]]:
    return [every_case()] if world == 1 else run_ranks(world, every_case)


pytestmark = pytest.mark.ranks
over_worlds = pytest.mark.parametrize("world", [2, 4])
over_cases = pytest.mark.parametrize("case", CASES, ids="-".join)


@pytest.mark.evidence("N ranks give the losses and metrics of one rank, each scale, N = 2 and 4", how="gloo")
@over_worlds
@over_cases
def test_losses_and_metrics_are_those_of_one_rank(world: int, case: tuple[str, str]) -> None:
    one = computed(1)[0][case]["values"]
    for answers in computed(world):
        many = answers[case]["values"]
        assert set(many) == set(one)
        for name, value in one.items():
            # fp32 sums in another order: 1e-5 of the value, as the promise says.
            assert abs(many[name] - value) <= 1e-5 * abs(value) + 1e-7, name


@pytest.mark.evidence("N ranks give the gradients of one rank, each scale, N = 2 and 4", how="gloo")
@over_worlds
@over_cases
def test_gradients_of_embeddings_and_parameters_are_those_of_one_rank(world: int, case: tuple[str, str]) -> None:
    one = computed(1)[0][case]["gradients"]
    total = torch.stack([gradient.norm() for gradient in one.values()]).norm()
    assert total > 0
    for answers in computed(world):
        many = answers[case]["gradients"]
        assert set(many) == set(one)
        for name, gradient in one.items():
            assert (many[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6 * total, name


@pytest.mark.evidence("Hard negatives come from all ranks and do not depend on their number", how="gloo")
@over_worlds
@pytest.mark.parametrize("duplicates", DUPLICATES)
def test_the_draw_of_negatives_does_not_know_the_number_of_ranks(world: int, duplicates: str) -> None:
    case = ("instance", duplicates)
    one = computed(1)[0][case]["negatives"]
    many: dict[str, Tensor] = {}
    for answers in computed(world):
        many |= answers[case]["negatives"]
    assert len(one) == 2 * Sizes().pairs
    assert many == one
    assert len(set(map(int, one.values()))) > 2


def test_every_gradient_that_a_scale_should_give_is_there() -> None:
    gradients = computed(1)[0]["all_four", "some"]["gradients"]
    silent = {name for name, gradient in gradients.items() if not gradient.any()}
    assert not silent
    assert {name.split(".")[1] for name in gradients if name.startswith("scales.")} == {
        "global_scale", "instance_scale", "modality_scale",
    }  # fmt: skip
