"""The configuration's defaults are the paper's, and a run without any objective is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from msvl.objectives.config import ObjectivesConfig


def test_defaults_are_the_papers_objective() -> None:
    config = ObjectivesConfig()
    assert config.global_.temperature == 0.07
    local = config.local
    assert (local.attention_temperature, local.unit_temperature, local.logit_scale) == (4.0, 5.0, 10.0)
    assert local.normalise_over == "units_then_patches"
    assert config.modality.cross_sample_weight == 0
    assert [part.weight for part in (config.global_, local, config.instance, config.modality)] == [1, 1, 1, 1]


def test_all_weights_zero_is_refused_with_the_cure() -> None:
    off = {name: {"weight": 0} for name in ("global", "local", "instance", "modality")}
    with pytest.raises(ValidationError, match="every scale has weight 0.*set a scale's weight above 0"):
        ObjectivesConfig(**off)
