"""An objective of the user's own, named by import path."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from msvl.config.errors import ConfigError
from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.scale import ScaleOutput, StepContext
from msvl.objectives.total import Objectives
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids, trainable


class Distance(nn.Module):
    """Mean squared distance of a pair, times a learnt factor."""

    def __init__(self, *, channels: int, seed: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([factor]))

    def forward(self, context: StepContext) -> ScaleOutput:
        gap = (context.embeddings.image - context.embeddings.text).square().sum(dim=1).mean()
        return ScaleOutput(loss=(self.factor * gap).squeeze(), metrics={"gap": gap.detach()})


class NoModule:
    def __init__(self, **_: object) -> None: ...


def config(path: str = "tests.objectives.test_custom:Distance", **custom: object) -> ObjectivesConfig:
    return ObjectivesConfig.model_validate({"custom": {"distance": {"class": path, **custom}}})


def test_it_joins_the_total_with_its_weight_and_options() -> None:
    sizes = Sizes()
    embeddings, tensors = trainable(make_embeddings(sizes))
    objectives = Objectives(config(weight=0.5, options={"factor": 3.0}), channels=sizes.channels, seed=0)
    values = objectives(embeddings, make_ids(sizes.pairs, "none"), 0)
    gap = (tensors["image"] - tensors["text"]).square().sum(dim=1).mean()
    assert values["distance"].item() == pytest.approx(3 * gap.item(), rel=1e-6)
    assert values["metric/gap"].item() == pytest.approx(gap.item(), rel=1e-6)
    others = sum(values[name] for name in ("global", "local", "instance", "modality"))
    assert values["total"].item() == pytest.approx((others + 0.5 * values["distance"]).item(), rel=1e-6)
    values["total"].backward()
    assert dict(objectives.named_parameters())["scales.distance_scale.factor"].grad is not None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere:Loss", "cannot be imported"),
        ("tests.objectives.test_custom:Missing", "cannot be imported"),
        ("tests.objectives.test_custom", "expected package.module:Class"),
        ("tests.objectives.test_custom:config", "is no class"),
        ("tests.objectives.test_custom:NoModule", "is no torch.nn.Module"),
    ],
)
def test_what_cannot_be_used_is_named(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objectives(config(path), channels=4, seed=0)


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="the name 'local' is taken"):
        ObjectivesConfig.model_validate({"custom": {"local": {"class": "a:B"}}})
