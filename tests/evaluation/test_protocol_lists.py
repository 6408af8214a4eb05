"""Whether a packed set is what a card's lists say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from msvl.cli import main
from msvl.evaluation.protocol import read_protocol

torch.set_num_threads(1)


def test_a_set_that_is_not_the_cards_list_says_so(judged: Path, packed: Path) -> None:
    from msvl.data.packed import PackedSet
    from msvl.evaluation.protocol_run import split_status

    card = read_protocol("maco").card("segmentation", "siim-acr")
    own = PackedSet.open(packed)
    assert split_status(card, own).startswith("NOT the card's lists for test, train, train_1, train_10, val")
    own.manifest["source"]["split_lists"] = {name: item.sha256 for name, item in card.splits.items()}
    assert split_status(card, own) == "as in the card: every list has its SHA-256"


@pytest.mark.evidence("A set packed by a card's lists says so beside its figures", how="cpu")
def test_a_set_packed_by_the_cards_lists_is_known_by_their_digests(judged: Path, tmp_path: Path) -> None:
    import hashlib

    from msvl.data.phantom.miniatures.nih_chestxray14 import pack_words
    from tests.helpers.miniatures import source_of, write_miniature

    nih = write_miniature("nih-chestxray14", tmp_path / "nih", train=40, val=10, test=10)
    images: dict[str, list[str]] = {}
    for entry in source_of("nih-chestxray14", nih).entries():
        images.setdefault(entry.patient, []).append(entry.image)
    patients = list(images.values())
    parts = {"train": patients[:30], "train_10": patients[:20], "val": patients[30:45], "test": patients[45:]}
    splits, words = {}, []
    for name, part in parts.items():
        file = tmp_path / f"{name}.txt"
        file.write_text("".join(f"{image} 0 1\n" for own in part for image in own))
        splits[name] = {"origin": "here", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        words += ["--split-list", f"{name}={file}"]
    out = tmp_path / "set"
    assert (
        main(["data", "pack", *pack_words(nih), *words, "--short-side", "64", "--workers", "1", "--out", str(out)]) == 0
    )

    card = {"task": "linear_probe", "data": "nih-chestxray14", "splits": splits, "headline": "auc_mean",
            "linear_probe": {"ratios": ["10", "100"]}}  # fmt: skip
    figures = {}
    for name, cards in (("theirs", [card]), ("others", [card | {"splits": splits | {"val": splits["test"]}}])):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"name": name, "title": "t", "summary": "s", "cards": cards}))
        line = ["evaluate", str(judged), "--data", str(out), "--protocol", str(file), "--tasks", "linear_probe"]
        assert main([*line, "--resamples", "0", "--name", name]) == 0
        figures[name] = json.loads((judged / "evaluation" / f"{name}.json").read_text())
    status = {name: content["cards"]["linear_probe"]["splits"] for name, content in figures.items()}
    assert status["theirs"] == "as in the card: every list has its SHA-256"
    assert status["others"].startswith("NOT the card's lists for val")
    few = tmp_path / "few.txt"
    assert main(["data", "subset", str(out), "--ratio", "0.5", "--out", str(few)]) == 0
    assert main([*line, "--resamples", "0", "--name", "few", "--train-subset", str(few)]) == 0
    learnt = json.loads((judged / "evaluation" / "few.json").read_text())["figures"]["linear_probe"]
    assert learnt["training_images_at_100"] == len(few.read_text().splitlines()) - 1
    listed = sum(map(len, parts["train_10"]))
    assert figures["theirs"]["figures"]["linear_probe"]["training_images_at_10"] == listed
