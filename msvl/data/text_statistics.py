"""What a split's report text looks like to a language model."""

from __future__ import annotations

import numpy as np

from msvl.data.config import ReportConfig
from msvl.data.packed import SplitIndex
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.tokenise import ReportTokeniser


def unigram_entropy(
    index: SplitIndex, tokeniser: ReportTokeniser, report: ReportConfig, *, reports: int = 2000
) -> float:
    """Return the entropy in nats of single tokens: the cross entropy of a masked-token guess that ignores the context.

    Args:
        index: Split whose first `reports` readable reports are counted (the order of keys is random).
        tokeniser: The run's.
        report: Which sections and sentences are read.
        reports: Enough for two decimals.
    """
    reader = SampleReader(index)
    counts = np.zeros(tokeniser.vocab_size, dtype=np.int64)
    for number in range(min(len(index), reports)):
        try:
            tokens = tokeniser.encode([usable_sentences(reader.meta(number), report)])
        except ValueError:  # the stream names, counts and skips such a record
            continue
        counts += np.bincount(tokens.input_ids[tokens.sentence_index >= 0].numpy(), minlength=len(counts))
    reader.close()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
