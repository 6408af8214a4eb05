"""Where the stream's token ids come from: made of each text as it is read, or stored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from msvl.data.config import ReportConfig
from msvl.data.flat_reports import FlatReports
from msvl.data.identity import normalised_text, stable_id
from msvl.data.reader import SampleReader
from msvl.data.sample import read_sentences
from msvl.data.token_store import Draw, EncodedTexts, TokenStore
from msvl.data.tokenise import ReportTokeniser


class Texts(Protocol):
    """A source's texts."""

    def drawn(self, texts: Sequence[Any], draw: Draw, *, impression: bool) -> EncodedTexts:
        """Return the sentences that `draw` chooses of texts that were found."""
        ...


class FoundText(NamedTuple):
    """A sample's text, known to be readable."""

    texts: Texts
    """Where from."""
    text: Any
    """What `texts.drawn` takes."""


class SentenceEncoder:
    """Tokenises sentences that were read: those of all sources in one call."""

    def __init__(self, tokeniser: ReportTokeniser, report: ReportConfig) -> None:
        self.report = report
        self._tokeniser = tokeniser

    def drawn(self, texts: Sequence[Sequence[str]], draw: Draw, *, impression: bool) -> EncodedTexts:
        """Tokenise the sentences that are drawn."""
        flat = [sentence for sentences in texts for sentence in sentences]
        order, counts = draw(np.array([len(sentences) for sentences in texts]))
        chosen = [flat[number] for number in order.tolist()]
        return encode_sentences(chosen, counts, self._tokeniser, self.report)


class OnlineTexts:
    """Reads each text, to be tokenised with the others of its batch."""

    def __init__(self, reader: SampleReader, encoder: SentenceEncoder) -> None:
        self._reader = reader
        self._encoder = encoder

    def find(self, row: int, *, impression: bool) -> FoundText:
        """Read a sample's sentences. Raises ValueError when it has none that can be read."""
        meta = self._reader.meta(row)
        return FoundText(self._encoder, read_sentences(meta, self._encoder.report, impression=impression))


class StoredTexts:
    """Takes stored ids; reads and tokenises the texts that could not be read when they were made.

    The bytes of every text are compared with their checksum all the same: which samples cannot be read must not depend on
    where their ids come from.
    """

    def __init__(self, store: TokenStore, reader: SampleReader, online: OnlineTexts) -> None:
        self._store = store
        self._reader = reader
        self._online = online

    def find(self, row: int, *, impression: bool) -> FoundText:
        """Return where a sample's ids are. Raises ValueError when its text is damaged, or has no ids and cannot be read."""
        if not self._store.readings[impression].has(row):
            return self._online.find(row, impression=impression)
        self._reader.check_text(row)
        return FoundText(self, row)

    def drawn(self, texts: Sequence[int], draw: Draw, *, impression: bool) -> EncodedTexts:
        """Return the ids of the sentences that are drawn."""
        return self._store.readings[impression].take(np.array(texts), draw)


def encode_sentences(
    sentences: Sequence[str], counts: np.ndarray, tokeniser: ReportTokeniser, report: ReportConfig
) -> EncodedTexts:
    """Tokenise sentences laid end to end, `counts` of each report."""
    flat: FlatReports = tokeniser.flatten([sentences], report.unit)._replace(counts=counts)
    hashes = np.fromiter(map(sentence_hash, sentences), np.uint64, len(sentences))
    return EncodedTexts(flat, hashes)


@lru_cache(maxsize=16384)
def sentence_hash(sentence: str) -> int:
    """Return a 63-bit hash of a sentence's normalised text. Reports repeat their commonest sentences, so some are kept."""
    return stable_id(normalised_text(sentence))


def read_ids(encoded: EncodedTexts) -> np.ndarray:
    """Return a 63-bit name of what is read of each report, the same in any order of its sentences: [m] int64."""
    counts = encoded.reports.counts
    return (np.add.reduceat(encoded.texts, np.cumsum(counts) - counts) >> np.uint64(1)).astype(np.int64)
