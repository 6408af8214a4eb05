"""Protocol cards: whole, equal to what was published, and told apart in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msvl.cli import main
from msvl.config.errors import ConfigError
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
    "chexpert": ((2000, 8e-4, 50), (60000, 1e-4, 1500), (200000, 1e-5, 15000)),
    "nih-chestxray14": ((2000, 8.5e-3, 50), (30000, 3e-3, 500), (200000, 3e-3, 5000)),
    "rsna-pneumonia": ((2000, 6.5e-3, 50), (10000, 6e-4, 200), (50000, 5e-4, 2000)),
}
"""Steps, learning rate and warm-up at 1, 10 and 100 % (MaCo's README and scripts)."""


@pytest.mark.parametrize("data", PUBLISHED)
def test_schedules_are_macos(data: str) -> None:
    card = read_protocol("maco").card("fine_tuned", data)
    found = tuple((item.steps, item.lr, item.warmup) for item in card.fine_tuned.schedules.values())
    assert found == PUBLISHED[data]


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


def test_a_protocol_does_not_differ_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    clean = read_protocol("clean")
    assert diff_protocols(clean, clean) == {}
    main(["protocol", "diff", "clean", "clean"])
    assert capsys.readouterr().out == "clean and clean say the same.\n"


def test_list_and_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocol", "list", "--json"])
    assert {item["name"] for item in json.loads(capsys.readouterr().out)} == {"maco", "benchx", "clean"}
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
    with pytest.raises(ConfigError, match="there is no protocol 'cleen': benchx, clean, maco ship.*Did you mean clean"):
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
