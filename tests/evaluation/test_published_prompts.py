"""Prompt sets that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msvl.config.errors import ConfigError
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.published_prompts import card_prompts, every_prompt_set, prompt_set_names, published_prompts


def test_macos_prompts_word_by_word() -> None:
    prompts = published_prompts("maco", ["Lung Opacity"]).findings["Lung Opacity"]
    assert prompts.positive == ("There is lung opacity.",)
    assert prompts.negative == (
        "The lung is clear.", "There is no lung opacity.", "No lung opacity.", "No evidence of lung opacity.",
    )  # fmt: skip


def test_chexzeros_pair_is_bare() -> None:
    prompts = published_prompts("chexzero", ["pleural_effusion"]).findings["pleural_effusion"]
    assert (prompts.positive, prompts.negative) == (("pleural effusion",), ("no pleural effusion",))


def test_a_finding_may_have_prompts_of_its_own() -> None:
    prompts = published_prompts("cxr_clip", ["Pneumonia", "edema"]).findings
    assert prompts["Pneumonia"].positive == ("Findings suggesting pneumonia.",)
    assert prompts["edema"].negative == ("No edema",)


def test_every_set_ships_with_its_origin_and_another_digest() -> None:
    sets = {name: published_prompts(name, ["edema"]) for name in prompt_set_names()}
    assert len({item.digest for item in sets.values()}) == len(sets) >= 5


def test_the_packed_sets_own_prompts_are_one_more_set(tmp_path: Path) -> None:
    assert "own" not in every_prompt_set(["edema"], tmp_path)
    own = {"edema": {"positive": ["wet lungs"], "negative": ["dry lungs"]}}
    (tmp_path / "prompts.json").write_text(json.dumps(own))
    assert every_prompt_set(["edema"], tmp_path)["own"].findings["edema"].positive == ("wet lungs",)
    assert card_prompts("own", ["edema"], tmp_path).findings["edema"].negative == ("dry lungs",)


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no prompt set 'moco'.* Did you mean maco"):
        published_prompts("moco", ["edema"])


def test_a_finding_is_asked_for_by_the_name_of_the_card(tmp_path: Path) -> None:
    names = read_protocol("maco").card("zero_shot", "rsna-pneumonia").zero_shot.names
    prompts = card_prompts("maco", ["Pneumonia"], tmp_path, names).findings["Pneumonia"]
    assert prompts.positive == ("There is lung opacity.",)
    assert every_prompt_set(["Pneumonia"], tmp_path, names)["chexzero"].findings["Pneumonia"].negative == (
        "no lung opacity",
    )
