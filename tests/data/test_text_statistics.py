"""Unigram entropy against a count by hand."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from msvl.data.config import ReportConfig
from msvl.data.pack import PackOptions, pack
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.text_statistics import unigram_entropy
from msvl.data.tokenise import ReportTokeniser
from tests.helpers.tiny_source import TinySource


def test_unigram_entropy_is_the_entropy_of_single_tokens(tmp_path: Path) -> None:
    pack(TinySource(), tmp_path / "s", PackOptions(short_side=32, tokenizer_vocabulary=120), workers=1, progress=False)
    packed, report = PackedSet.open(tmp_path / "s"), ReportConfig(max_tokens=64, max_sentences=8)
    tokeniser = ReportTokeniser(str(packed.tokenizer_path), report)
    index = packed.split("train")
    reader = SampleReader(index)
    counts: Counter[int] = Counter()
    for number in range(len(index)):
        tokens = tokeniser.encode([usable_sentences(reader.meta(number), report)])
        for token, sentence in zip(tokens.input_ids[0].tolist(), tokens.sentence_index[0].tolist(), strict=True):
            if sentence >= 0:
                counts[token] += 1
    total = sum(counts.values())
    expected = -sum(count / total * math.log(count / total) for count in counts.values())
    assert unigram_entropy(index, tokeniser, report) == pytest.approx(expected, rel=1e-9)
    assert 0 < expected < math.log(len(counts)) + 1e-9
