"""Prompt ensembles and scores as cards ask for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from msvl.evaluation.encoders import encode_images, encode_prompts
from msvl.evaluation.exam import Features
from msvl.evaluation.prompts import FindingPrompts, PromptSet
from msvl.evaluation.protocol_tasks.zero_shot import prompt_scores
from msvl.evaluation.recipes import ZeroShotRecipe
from tests.evaluation.toy import ToyModel, ToyTokeniser, toy_set

PROMPTS = PromptSet(
    {
        "spot": FindingPrompts(("There is a spot at p1.", "a spot", "spot at p5"), ("No spot.", "lungs clear")),
        "clear": FindingPrompts(("lungs clear",), ("a spot at p2", "There is a spot.")),
    },
    origin="test",
)
SET = toy_set(20, noise=0.5)


def exam() -> Any:
    model, tokeniser = ToyModel(), ToyTokeniser()

    def features(split: str, *, prompts: Tensor | None = None, prompts_digest: str = "") -> Features:
        encoded = encode_images(model, SET.images, batch_size=7, prompts=prompts)
        return Features(encoded.image, encoded.features, encoded.prompt_scores, encoded.pair_maps)

    return SimpleNamespace(model=model, tokeniser=tokeniser, batch_size=4, features=features)


def cosines(texts: tuple[str, ...], *, local: bool) -> np.ndarray:
    """[N, K] cosines of every image with every prompt, the plain way."""
    sides = encode_prompts(ToyModel(), ToyTokeniser(), texts, batch_size=9)
    encoded = ToyModel().encode_image(SET.images)
    if local:
        patches = functional.normalize(encoded.patches, dim=-1)
        return torch.einsum("bnc,kc->bnk", patches, sides.sentence).amax(dim=1).detach().numpy()
    return (encoded.image @ sides.text.T).detach().numpy()


@pytest.mark.parametrize("score", ["global", "local"])
def test_the_largest_prompt_counts_where_a_card_says_max(score: str) -> None:
    recipe = ZeroShotRecipe(prompts="own", ensemble="max", score=score)
    found = prompt_scores(exam(), PROMPTS, recipe, "test")
    for name, item in PROMPTS.findings.items():
        sides = [cosines(side, local=score == "local").max(axis=1) for side in (item.positive, item.negative)]
        assert found[name] == pytest.approx(sides[0] - sides[1], abs=1e-6)


def test_the_mean_is_of_unit_vectors() -> None:
    found = prompt_scores(exam(), PROMPTS, ZeroShotRecipe(prompts="own"), "test")
    image = ToyModel().encode_image(SET.images).image
    for name, item in PROMPTS.findings.items():
        means = [
            functional.normalize(encode_prompts(ToyModel(), ToyTokeniser(), side, batch_size=9).text.mean(dim=0), dim=0)
            for side in (item.positive, item.negative)
        ]
        assert found[name] == pytest.approx((image @ (means[0] - means[1])).detach().numpy(), abs=1e-6)


def test_both_is_the_mean_of_global_and_local() -> None:
    scores = {
        kind: prompt_scores(exam(), PROMPTS, ZeroShotRecipe(prompts="own", score=kind), "test")
        for kind in ("global", "local", "both")
    }
    for name in PROMPTS.findings:
        assert scores["both"][name] == pytest.approx((scores["global"][name] + scores["local"][name]) / 2, abs=1e-6)
