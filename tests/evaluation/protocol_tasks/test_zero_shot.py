"""Prompt ensembles and scores as cards ask for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.encoders import encode_images, encode_prompts
from msvl.evaluation.exam import Features
from msvl.evaluation.findings import auc_figures, known_auc
from msvl.evaluation.operating_point import choose_threshold
from msvl.evaluation.prompts import FindingPrompts, PromptSet
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks import zero_shot
from msvl.evaluation.protocol_tasks.zero_shot import prompt_scores
from msvl.evaluation.recipes import ZeroShotRecipe
from tests.evaluation.toy import ToyModel, ToySet, ToyTokeniser, toy_set

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


def split(count: int, *, noise: float, prefix: str) -> ToySet:
    """A split of three images a patient, with a second finding and some labels unknown."""
    own = toy_set(count, noise=noise, prefix=prefix)
    own.patients = [f"{prefix}{row // 3}" for row in range(count)]
    labels = np.random.default_rng(count).integers(0, 2, count)
    labels[:4] = -2
    own.labels = {"spot": own.labels["spot"], "clear": labels}
    return own


SPLITS = {"val": split(45, noise=0.7, prefix="v"), "test": split(60, noise=0.9, prefix="t")}
OTHER = PromptSet({"spot": FindingPrompts(("spot",), ("lungs clear",)), "clear": FindingPrompts(("No spot.",), ("a spot at p3",))}, origin="other")  # fmt: skip


def two_splits() -> Any:
    own = exam()

    def features(name: str, *, prompts: Tensor | None = None, prompts_digest: str = "") -> Features:
        encoded = encode_images(own.model, SPLITS[name].images, batch_size=7, prompts=prompts)
        return Features(encoded.image, encoded.features, encoded.prompt_scores, encoded.pair_maps)

    own.features, own.splits, own.findings = features, SimpleNamespace(**SPLITS), ["spot", "clear"]
    own.packed = SimpleNamespace(path=None)
    return own


@pytest.mark.parametrize("threshold_split", ["val", "test"])
def test_figures_are_of_test_with_thresholds_of_the_cards_split(
    threshold_split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero_shot, "card_prompts", lambda *_: PROMPTS)
    monkeypatch.setattr(zero_shot, "every_prompt_set", lambda *_: {"first": PROMPTS, "other": OTHER})
    recipe = ZeroShotRecipe(prompts="own", score="both", threshold_split=threshold_split, threshold="f1")
    card = Card(task="zero_shot", data="any", headline="auc_mean", zero_shot=recipe)
    figures: dict[str, Any] = dict(zero_shot.run(two_splits(), card, EvaluationConfig(resamples=100)).figures)

    test = SPLITS["test"]
    scores = {name: prompt_scores(two_splits(), PROMPTS, recipe, name) for name in SPLITS}
    assert figures["auc"] == {name: known_auc(test.labels[name], scores["test"][name]) for name in PROMPTS.findings}
    assert figures["auc_mean"] == pytest.approx(np.mean(list(figures["auc"].values())))
    chosen_on = SPLITS[threshold_split].labels, scores[threshold_split]
    assert figures["threshold"] == {name: choose_threshold(chosen_on[0][name], chosen_on[1][name], "f1") for name in PROMPTS.findings}  # fmt: skip
    by_patient = auc_figures(test.labels, scores["test"], Bootstrap(test.patients, resamples=100))
    assert figures["auc_mean_interval"] == by_patient["auc_mean_interval"]

    by_prompts = {}
    for name, prompts in (("first", PROMPTS), ("other", OTHER)):
        plain = prompt_scores(two_splits(), prompts, ZeroShotRecipe(prompts="own"), "test")
        by_prompts[name] = np.mean([known_auc(test.labels[finding], own) for finding, own in plain.items()])
    assert figures["auc_mean_by_prompts"] == pytest.approx(by_prompts)
    assert figures["auc_mean_spread_over_prompts"] == pytest.approx(np.std(list(by_prompts.values())))
    assert by_prompts["first"] != by_prompts["other"] != figures["auc_mean"] != by_prompts["first"]
