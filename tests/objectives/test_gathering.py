"""Who may be whose negative, and the shape of what is gathered on one rank."""

from __future__ import annotations

import pytest
import torch

from msvl.objectives.gathering import gather_embeddings
from tests.helpers.reference import allowed_pairs
from tests.objectives.batches import DUPLICATES, Sizes, make_embeddings, make_ids
from tests.objectives.one_rank import as_lists

SIZES = Sizes()


@pytest.mark.parametrize("duplicates", DUPLICATES)
def test_pairs_of_one_text_study_or_patient_are_excluded_both_ways(duplicates: str) -> None:
    ids = make_ids(SIZES.pairs, duplicates)
    allowed = gather_embeddings(make_embeddings(SIZES), ids, sentences=False).allowed()
    assert allowed.tolist() == allowed_pairs(*as_lists(ids))
    assert torch.equal(allowed, allowed.T)
    assert allowed.all() == (duplicates == "none")


def test_sentences_are_gathered_only_when_asked_for() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "none")
    assert gather_embeddings(embeddings, ids, sentences=False).sentences is None
    gathered = gather_embeddings(embeddings, ids, sentences=True)
    assert torch.equal(gathered.sentences, embeddings.sentences)
    assert torch.equal(gathered.image, embeddings.image)
    assert torch.equal(gathered.text, embeddings.text)
    assert gathered.own.tolist() == list(range(SIZES.pairs))
