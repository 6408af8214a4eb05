"""Real ranks send what the formulas say."""

from __future__ import annotations

import pytest
import torch

from msvl.collectives.strict import recording
from msvl.collectives.world import rank, world_size
from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.total import Objectives
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids, rows_of, trainable
from tests.helpers.ranks import run_ranks
from tests.objectives.formulas import Shape, bytes_sent
from tests.objectives.test_traced import CONFIGS, OFF, TOGETHER

SIZES = Sizes()


def sent(name: str) -> float:
    """Collective. Return the bytes that this rank sends in one step."""
    rows = torch.arange(rank(), SIZES.pairs, world_size())
    embeddings, _ = trainable(rows_of(make_embeddings(SIZES), rows))
    ids = rows_of(make_ids(SIZES.pairs, "some"), rows)
    objectives = Objectives(ObjectivesConfig.model_validate(OFF | CONFIGS[name]), channels=SIZES.channels, seed=0)
    with recording() as calls:
        objectives(embeddings, ids, 0)["total"].backward()
    return sum(call.sent(world_size()) for call in calls)


@pytest.mark.ranks
@pytest.mark.evidence(
    "Bytes sent per step on 1, 2 and 4 ranks are those of the formulas in docs/scaling.md", how="gloo"
)
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_ranks_send_what_the_formulas_say(world: int, name: str) -> None:
    shape = Shape(
        b=SIZES.pairs // world, W=world, C=SIZES.channels, N=SIZES.patches, S=SIZES.sentences, D=SIZES.pixels
    )  # fmt: skip
    expected = sum(bytes_sent(TOGETHER if name == "all" else (name,), shape).values())
    assert run_ranks(world, sent, name) == pytest.approx([expected] * world, rel=1e-12)
    assert (expected > 0) == (world > 1)
