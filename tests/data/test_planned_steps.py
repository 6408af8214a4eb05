"""Plans made for many steps at once are those made step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msvl.data.config import DataConfig
from msvl.data.planned_steps import PlannedSteps, Share
from msvl.data.training_data import TrainingData
from tests.helpers.packed_sets import pack_studies


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_studies(tmp_path_factory.mktemp("packed") / "studies")


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("share", [Share(8), Share(8, 1, 2), Share(640)])
def test_steps_in_any_order_read_what_the_plan_says(studies: Path, stride: int, share: Share) -> None:
    plan = TrainingData.open(DataConfig(path=str(studies), lanes=4, shuffle_window=6), 0).plan
    planned = PlannedSteps(plan, share, stride=stride)
    for step in [*range(0, 70 * stride, stride), 5, 3, 200, 4]:
        positions, places = planned(step)
        assert positions == share.positions(step)
        located = plan.locate(np.array(positions))
        assert places == list(zip(*(column.tolist() for column in located), strict=True))
