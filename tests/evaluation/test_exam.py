"""What a card makes of labels, and what has a place of its own in the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from msvl.data.evaluation_set import EvaluationSet
from msvl.data.uncertainty import UNCERTAIN, UNKNOWN
from msvl.evaluation.exam import Exam, Splits

STATES = np.array([1, 0, UNCERTAIN, UNKNOWN])


def part(name: str) -> EvaluationSet:
    """Four images with every state of a label."""
    rows = range(len(STATES))
    return EvaluationSet(
        images=torch.zeros(4, 1, 8, 8, dtype=torch.uint8), sentences=[["Clear."]] * 4,
        labels={"Edema": STATES, "Cardiomegaly": STATES[::-1].copy(), "No Finding": STATES, "Fracture": STATES},
        boxes=[[]] * 4, keys=[f"{name}{row}" for row in rows], patients=[f"{name}{row}" for row in rows],
        studies=[f"{name}{row}" for row in rows], text_hashes=["h"] * 4, views=["PA"] * 4, extras=[{}] * 4,
        shapes=[(0, 0)] * 4, stored_boxes=[[]] * 4, numbers=list(rows),
    )  # fmt: skip


def exam(folder: Path, *, model: str = "weights", data: str = "data", splits: Splits | None = None) -> Exam:
    packed: Any = SimpleNamespace(fingerprint=data)
    own = splits or Splits(part("a"), part("b"), part("c"))
    network: Any = None
    return Exam(
        network, None, packed, own, cache=folder, model_digest=model, batch_size=2, say=lambda text: None
    )  # fmt: skip


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_uncertain_and_unmentioned_labels_are_what_the_card_takes_them_for(name: str, tmp_path: Path) -> None:
    # CheXpert's published mapping: uncertain oedema is present, an uncertain large heart absent, blanks are absent.
    own = exam(tmp_path).with_labels("chexpert", "absent", ("Edema", "Cardiomegaly"))
    labels = getattr(own.splits, name).labels
    assert {finding: values.tolist() for finding, values in labels.items()} == {
        "Edema": [1, 0, 1, 0], "Cardiomegaly": [0, 0, 0, 1],
    }  # fmt: skip


def test_without_a_word_on_them_they_never_count(tmp_path: Path) -> None:
    own = exam(tmp_path).with_labels("ignore", "unknown")
    labels = own.splits.test.labels
    assert list(labels) == ["Edema", "Cardiomegaly", "Fracture"]
    assert not set(labels["Edema"][2:].tolist()) & {0, 1}


def test_model_data_samples_and_card_have_places_of_their_own(tmp_path: Path) -> None:
    def place(card: str = "card", **changes: Any) -> Path:
        return exam(tmp_path, **changes).store(card=card).folder

    test = part("c")
    fewer = replace(test, **{name: getattr(test, name)[:3] for name in ("images", "keys", "patients")})
    others = [
        place(), place(model="others"), place(data="others"), place(card="others"),
        *(place(splits=Splits(*own)) for own in (
            (part("a"), part("b"), fewer), (part("a"), part("x"), test), (part("x"), part("b"), test),
        )),
    ]  # fmt: skip
    assert len(set(others)) == len(others)
    assert place() == others[0]
    whole = exam(tmp_path)
    assert whole.with_splits(Splits(part("a"), part("b"), fewer)).store(card="card").folder == others[4]
    assert whole.store(card="card").folder == others[0]
