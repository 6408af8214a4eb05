"""Reports to tokens with sentence places, and the tokenizer that packing trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.tokenise import SPECIAL, ReportTokeniser, Unit, train_tokenizer
from msvl.models.masking import mask_tokens

TEXTS = ["No pleural effusion.", "Small left pleural effusion.", "The heart is large.", "No pneumothorax."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 80, out)
    return out


def tokeniser(folder: Path, *, tokens: int = 24, sentences: int = 3, words: int = 20) -> ReportTokeniser:
    return ReportTokeniser(str(folder), ReportConfig(max_tokens=tokens, max_sentences=sentences, max_words=words))


def test_the_vocabulary_does_not_depend_on_the_order_of_the_reports(folder: Path, tmp_path: Path) -> None:
    train_tokenizer(reversed(TEXTS), 80, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_too_small_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--train-tokenizer 10: these reports need at least \d+ tokens"):
        train_tokenizer(TEXTS, 10, tmp_path)


def test_tokens_know_their_sentence(folder: Path) -> None:
    tool = tokeniser(folder)
    batch = tool.encode([["No pleural effusion.", "The heart is large."], ["No pneumothorax."]])
    ids, sentence = batch.input_ids, batch.sentence_index
    assert ids.shape == sentence.shape == (2, 24)
    assert ids[0, 0] == tool.cls_id
    # CLS, four tokens, five tokens, SEP
    assert sentence[0, :11].tolist() == [-1, 0, 0, 0, 0, 1, 1, 1, 1, 1, -1]
    assert ids[0, 10] == tool.sep_id
    assert batch.attention_mask.sum(dim=1).tolist() == [11, 5]
    assert (ids[0, 11:] == tool.pad_id).all()
    assert batch.sentence_mask.tolist() == [[True, True, False], [True, False, False]]
    assert (ids[:, :5] != tool.unk_id).all()


def test_sentences_beyond_a_capacity_are_left_out_whole(folder: Path) -> None:
    by_places = tokeniser(folder, sentences=1).encode([["No pneumothorax.", "The heart is large."]])
    assert by_places.attention_mask.sum() == 5
    by_tokens = tokeniser(folder, tokens=9).encode([["No pneumothorax.", "Small left pleural effusion."]])
    assert by_tokens.sentence_mask.tolist() == [[True, False, False]]
    assert by_tokens.attention_mask.sum() == 5


def test_words_as_units_join_their_pieces(folder: Path) -> None:
    batch = tokeniser(folder).encode([["No pleural mass.", "The heart is large."]], unit="word")
    pieces = batch.sentence_index[0].tolist()
    # no, pleural, m a s s (no word of the vocabulary), the full stop; then five units of the second sentence
    assert pieces[:14] == [-1, 0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, -1]
    assert batch.sentence_mask.sum() == 9
    assert batch.sentence_mask.shape == (1, 20)
    few = tokeniser(folder, words=3).encode([["No pleural mass.", "The heart is large."]], unit="word")
    assert few.sentence_index[0].tolist()[:8] == [-1, 0, 1, 2, 2, 2, 2, -1]
    assert few.sentence_mask.all()


def test_a_first_sentence_that_is_too_long_is_cut_and_ends_with_sep(folder: Path) -> None:
    tool = tokeniser(folder, tokens=5)
    batch = tool.encode([["Small left pleural effusion."]])
    assert batch.attention_mask.sum() == 5
    assert batch.input_ids[0, -1] == tool.sep_id


def test_unknown_words_fall_into_characters_and_unknown_characters_are_marked(folder: Path) -> None:
    tool = tokeniser(folder)
    ids = tool.encode([["Tumour seen."]]).input_ids
    assert (ids != tool.unk_id).all()
    assert (tool.encode([["ÿ"]]).input_ids == tool.unk_id).sum() <= 1


MARKED = [
    ("Compared to ___, there is no effusion.", 1),
    ("XXXX-year-old, no pleural effusion.", 1),
    ("Dual-XXXX ___ effusion is large.", 1),  # two marks that stand side by side
    ("No xxxxx pleural effusion since ________ .", 2),  # a report in lower case
]


@pytest.mark.parametrize(("sentence", "marks"), MARKED)
@pytest.mark.parametrize("unit", ["sentence", "word"])
def test_what_was_taken_out_is_one_unknown_token_and_one_word(
    tmp_path: Path, sentence: str, marks: int, unit: Unit
) -> None:
    train_tokenizer([*TEXTS, *(text for text, _ in MARKED)], 120, tmp_path)
    tool = tokeniser(tmp_path)
    tokens = tool.encode([[sentence]], unit=unit)
    assert (tokens.input_ids == tool.unk_id).sum() == marks
    unmarked = re.sub(r"[xX]{3,}(\s+_+)?|_{2,}", "large", sentence)
    words = tool.encode([[unmarked]], unit=unit)
    assert tokens.attention_mask.sum() == words.attention_mask.sum()
    assert tokens.sentence_mask.equal(words.sentence_mask)
    known = tokens.input_ids != tool.unk_id
    assert tokens.input_ids[known].equal(words.input_ids[known]), "the words around it keep their places"


def test_marks_take_no_place_in_a_trained_vocabulary(folder: Path, tmp_path: Path) -> None:
    train_tokenizer([text.replace(" ", " XXXX ___ ") for text in TEXTS], 80, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.mark.evidence("What de-identification took out of a report is never a word to be reconstructed", how="cpu")
def test_a_mark_is_never_hidden_for_reconstruction(folder: Path) -> None:
    tool = tokeniser(folder)
    tokens = tool.encode([["No XXXX effusion ___ is large."]])
    for step in range(20):
        hidden = mask_tokens(
            tokens, seed=0, step=step, sample=torch.tensor([0]), mask_ratio=0.9, mask_id=tool.mask_id,
            unknown_id=tool.unk_id, vocab_size=tool.vocab_size,
        )  # fmt: skip
        marks = tokens.input_ids == tool.unk_id
        assert marks.sum() == 2 and (hidden.input_ids[marks] == tool.unk_id).all()
        assert (hidden.labels != tool.unk_id).all()


def test_transformers_loads_what_packing_trained(folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    assert [theirs.pad_token, theirs.unk_token, theirs.cls_token, theirs.sep_token, theirs.mask_token] == list(SPECIAL)
    ours = tokeniser(folder).encode([["Small left pleural effusion."]]).input_ids[0, 1:6].tolist()
    assert theirs("small left pleural effusion.", add_special_tokens=False)["input_ids"] == ours


def test_a_saved_tokeniser_is_the_same(folder: Path, tmp_path: Path) -> None:
    tokeniser(folder).save(tmp_path / "copy")
    again = tokeniser(tmp_path / "copy").encode([TEXTS])
    assert again.input_ids.equal(tokeniser(folder).encode([TEXTS]).input_ids)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_damaged_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="tokenizer"):
        tokeniser(tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"has no \[PAD\].*use a BERT tokenizer"):
        tokeniser(tmp_path)
