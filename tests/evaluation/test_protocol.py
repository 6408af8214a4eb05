"""Protocol cards: whole, equal to what was published, and told apart in words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from msvl.cli import main
from msvl.config.errors import ConfigError
from msvl.evaluation.findings import NOTHING_FOUND, chosen_findings
from msvl.evaluation.protocol import protocol_names, read_protocol
from msvl.evaluation.protocol_diff import diff_protocols

TASKS = ("linear_probe", "fine_tuned", "segmentation", "zero_shot", "grounding", "retrieval")


@pytest.mark.parametrize("name", ["maco", "benchx", "clean"])
@pytest.mark.parametrize("task", TASKS)
def test_every_protocol_has_a_card_for_any_data(name: str, task: str) -> None:
    card = read_protocol(name).card(task, "whatever")
    assert card is not None and card.data == "any"


def test_the_shipped_protocols_are_named_by_their_files() -> None:
    assert [read_protocol(name).name for name in protocol_names()] == protocol_names()


@pytest.mark.evidence("Protocol cards pin published splits by the SHA-256 of their lists", how="cpu")
def test_lists_have_whole_hashes_and_counts() -> None:
    lists = [
        item
        for name in protocol_names()
        for card in read_protocol(name).cards
        for item in card.splits.values()
        if item.sha256
    ]
    assert len(lists) >= 30
    assert all(len(item.sha256) == 64 and int(item.sha256, 16) and item.images for item in lists)


def test_a_published_list_is_the_one_of_the_guide() -> None:
    card = read_protocol("maco").card("fine_tuned", "rsna-pneumonia")
    assert card.splits["train_1"].sha256 == "3d42a99eee834d217abce8e59a5f5b2c73727f65716ef51dfe9ebc1612f5e7eb"
    assert card.splits["train_1"].images == 251


PUBLISHED = {
    ("maco", "chexpert"): ((2000, 8e-4, 50), (60000, 1e-4, 1500), (200000, 1e-5, 15000)),
    ("maco", "nih-chestxray14"): ((2000, 8.5e-3, 50), (30000, 3e-3, 500), (200000, 3e-3, 5000)),
    ("maco", "rsna-pneumonia"): ((2000, 6.5e-3, 50), (10000, 6e-4, 200), (50000, 5e-4, 2000)),
    ("mrm", "chexpert"): ((2000, 3e-3, 150), (60000, 5e-4, 1500), (200000, 5e-4, 15000)),
    ("mrm", "nih-chestxray14"): ((3000, 3e-2, 50), (30000, 3e-3, 500), (200000, 3e-3, 5000)),
    ("mrm", "rsna-pneumonia"): ((2000, 3e-3, 50), (10000, 5e-4, 200), (50000, 5e-4, 2000)),
}
"""Steps, learning rate and warm-up at 1, 10 and 100 % (their READMEs and scripts)."""


@pytest.mark.parametrize(("name", "data"), PUBLISHED)
def test_schedules_and_recipe_are_the_published_ones(name: str, data: str) -> None:
    recipe = read_protocol(name).card("fine_tuned", data).fine_tuned
    found = tuple((item.steps, item.lr, item.warmup) for item in recipe.schedules.values())
    assert found == PUBLISHED[name, data]
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.layer_decay) == ("sgd", 0.9, 0.0, 1.0)
    assert (recipe.batch, recipe.clip, recipe.drop_path, recipe.head_std, recipe.head_norm) == (
        96,
        1.0,
        0.1,
        2e-5,
        True,
    )
    assert (recipe.pooling, recipe.crop, recipe.flip, recipe.lr_factors) == ("mean", (0.08, 1.0), True, (1.0,))


SEGMENTATION = {"1": (1000, 5e-6, 100), "10": (5000, 2e-5, 100), "100": (160000, 1.5e-5, 1500)}
"""Steps, learning rate and warm-up of MaCo's configurations; MRM has 2e-5 at 100 % and none at 1 %."""


def test_segmentation_recipes_are_the_published_ones() -> None:
    recipes = {name: read_protocol(name).card("segmentation", "siim-acr").segmentation for name in ("maco", "mrm", "benchx")}  # fmt: skip
    found = {
        name: {ratio: (item.steps, item.lr, item.warmup) for ratio, item in recipe.schedules.items()}
        for name, recipe in recipes.items()
    }
    assert found["maco"] == SEGMENTATION
    assert found["mrm"] == {"10": SEGMENTATION["10"], "100": (160000, 2e-5, 1500)}
    assert set(found["benchx"].values()) == {(20000, 1e-3, 1500)}
    for name in ("maco", "mrm"):
        recipe = recipes[name]
        assert (recipe.head, recipe.size, recipe.batch, recipe.flip, recipe.freeze) == ("upernet", 512, 8, 0.5, False)
        assert (recipe.weight_decay, recipe.layer_decay, recipe.drop_path) == (0.05, 0.65, 0.1)
        # The auxiliary head's focal and Dice losses have 0.8 and 0.4: the same two at 0.4 times their weight.
        assert (recipe.focal, recipe.dice, recipe.auxiliary, recipe.cross_entropy) == (2.0, 1.0, 0.4, 0.0)
    assert (recipes["benchx"].cross_entropy, recipes["benchx"].focal, recipes["benchx"].dice) == (1.0, 0.0, 0.0)


def test_grounding_is_macos() -> None:
    recipe = read_protocol("maco").card("grounding", "ms-cxr").grounding
    assert (recipe.resolution, recipe.sigma, recipe.stretched, recipe.average) == ("square", 1.5, True, "micro")


COUNTS = {"chexpert": 5, "nih-chestxray14": 14, "rsna-pneumonia": 1, "siim-acr": 1}


def test_cards_of_a_data_set_name_the_findings_of_the_mean() -> None:
    found = set()
    for name in protocol_names():
        for card in read_protocol(name).cards:
            if card.data in COUNTS:
                assert len(card.findings) == COUNTS[card.data], (name, card.task, card.data)
                assert not NOTHING_FOUND & {finding.lower() for finding in card.findings}
                found.add(name)
    assert found == {"benchx", "clean", "maco", "mgca", "mrm"}


def test_findings_are_the_importers_names() -> None:
    from msvl.data.label_states import CHEXPERT_FINDINGS
    from msvl.data.sources import nih_chestxray14, rsna_pneumonia, siim_acr

    clean = read_protocol("clean")
    assert set(clean.card("fine_tuned", "chexpert").findings) < set(CHEXPERT_FINDINGS)
    assert clean.card("fine_tuned", "nih-chestxray14").findings == nih_chestxray14.FINDINGS
    assert clean.card("fine_tuned", "rsna-pneumonia").findings == (rsna_pneumonia.PNEUMONIA,)
    assert clean.card("segmentation", "siim-acr").findings == (siim_acr.FINDING,)


def test_what_says_that_nothing_was_found_is_no_finding() -> None:
    labels = dict.fromkeys(("No Finding", "Edema", "Normal", "Pneumonia"), np.zeros(1, dtype=np.int64))
    assert chosen_findings(labels) == ["Edema", "Pneumonia"]
    assert chosen_findings(labels, ("Pneumonia", "Mass")) == ["Pneumonia"]


def test_the_digest_changes_with_every_word() -> None:
    card = read_protocol("maco").card("zero_shot", "rsna-pneumonia")
    assert card.model_copy(update={"labels": "others"}).digest != card.digest
    assert read_protocol("maco").card("zero_shot", "rsna-pneumonia").digest == card.digest


@pytest.mark.evidence("`msvl protocol diff A B` explains in words why two protocols' figures differ", how="cpu")
def test_diff_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocol", "diff", "maco", "benchx"]) == 0
    said = capsys.readouterr().out
    rsna = said.split("fine_tuned, rsna-pneumonia")[1].split("\n\n")[0]
    assert "3,000 images" in rsna and "4,003 images" in rsna
    assert "so other images are judged" in rsna.lower()
    assert "headline: maco: auc_mean; benchx: f1_mean" in rsna
    siim = said.split("segmentation, siim-acr")[1].split("\n\n")[0]
    assert "healthy image" in siim and "background included" in siim
    assert "494 of test are also in train" in siim


@pytest.mark.parametrize("names", list(itertools.combinations(protocol_names(), 2)), ids="-".join)
def test_every_difference_of_shipped_protocols_says_what_it_does(names: tuple[str, str]) -> None:
    for lines in diff_protocols(*map(read_protocol, names)).values():
        for line in lines:
            assert line.field in ("card", "leaks") or ". So " in line.text, line
            assert ": ;" not in line.text and ": ." not in line.text, line


def test_a_protocol_does_not_differ_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    clean = read_protocol("clean")
    assert diff_protocols(clean, clean) == {}
    main(["protocol", "diff", "clean", "clean"])
    assert capsys.readouterr().out == "clean and clean say the same.\n"


def test_list_and_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocol", "list", "--json"])
    assert {item["name"] for item in json.loads(capsys.readouterr().out)} == set(protocol_names())
    main(["protocol", "show", "maco", "--data", "siim-acr", "--task", "segmentation", "--json"])
    (card,) = json.loads(capsys.readouterr().out)["cards"]
    assert card["digest"] == read_protocol("maco").card("segmentation", "siim-acr").digest
    assert card["splits"]["train"]["images"] == 7969


def test_leaky_cards_name_their_clean_twin() -> None:
    for name in protocol_names():
        protocol = read_protocol(name)
        if any(card.leaks and card.splits for card in protocol.cards) and name != "benchx":
            assert protocol.twin in protocol_names()


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError,
        match="there is no protocol 'cleen': ablation, benchx, clean, maco, mgca, mrm ship.*Did you mean clean",
    ):
        read_protocol("cleen")


def test_own_cards_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntitle: t\nsummary: s\ncards:\n  - {task: retrieval, data: any, headline: report_r5, zero_shot: {prompts: own}}\n"
    )
    with pytest.raises(ConfigError, match=r"mine.yaml: .*needs the section 'retrieval' alone, found \['zero_shot'\]"):
        read_protocol(str(file))
    file.write_text(
        "name: mine\ntitle: t\nsummary: s\ncards:\n  - {task: retrieval, data: any, headline: x, retrieval: {folds: 3}}\n"
    )
    with pytest.raises(ConfigError, match="unknown key .*folds"):
        read_protocol(str(file))


def test_the_same_list_of_two_repositories_is_no_difference() -> None:
    found = diff_protocols(read_protocol("maco"), read_protocol("mrm"))
    fields = {line.field for line in found["fine_tuned, rsna-pneumonia"]}
    assert "fine_tuned.schedules.1" in fields and not any(field.startswith("splits.") for field in fields)
    benchx = diff_protocols(read_protocol("maco"), read_protocol("benchx"))
    assert "splits.test" in {line.field for line in benchx["fine_tuned, rsna-pneumonia"]}


@pytest.mark.parametrize("action", ["list", "show", "diff"])
def test_help_shows_an_example_that_works(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["protocol", action, "--help"])
    example = capsys.readouterr().out.partition("Example: msvl ")[2]
    assert example.startswith(f"protocol {action}")
    assert main(example.split()) == 0
