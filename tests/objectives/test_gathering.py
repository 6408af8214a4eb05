"""Who may be whose negative, and the shape of what is gathered on one rank."""

from __future__ import annotations

import pytest
import torch

from msvl.objectives.gathering import gather_embeddings
from msvl.training.gradcheck.made_up import DUPLICATES, Sizes, make_embeddings, make_ids
from tests.helpers.reference import allowed_pairs
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


def test_pairs_that_read_the_same_of_different_reports_are_excluded_too() -> None:
    ids = make_ids(SIZES.pairs, "none")
    ids.read[4] = ids.read[5]
    gathered = gather_embeddings(make_embeddings(SIZES), ids, sentences=False)
    assert (~gathered.allowed()).nonzero().tolist() == [[4, 5], [5, 4]]
    assert torch.equal(gathered.allowed(slice(3, 6)), gathered.allowed()[3:6])
    assert gathered.allowed_share().item() == pytest.approx(1 - 2 / SIZES.pairs**2)


def test_further_positives_stand_in_the_denominator_and_other_duplicates_do_not() -> None:
    ids = make_ids(SIZES.pairs, "some")  # 0 and 3 read the same; the last shares their text and reads something else
    part, positives = gather_embeddings(make_embeddings(SIZES), ids, sentences=False).taking_part("positive")
    assert part is not None
    assert positives is not None
    assert positives().nonzero().tolist() == sorted([[i, i] for i in range(SIZES.pairs)] + [[0, 3], [3, 0]])
    assert part()[0, 3]
    assert not part()[0, SIZES.pairs - 1]
