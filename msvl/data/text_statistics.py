"""What a split's report text looks like to a language model."""

from __future__ import annotations

import numpy as np

from msvl.data.config import ReportConfig
from msvl.data.packed import SplitIndex
from msvl.data.reader import SampleReader
from msvl.data.sample import read_sentences
from msvl.data.tokenise import ReportTokeniser


def unigram_entropy(
    index: SplitIndex, tokeniser: ReportTokeniser, report: ReportConfig, *, reports: int = 2000
) -> float:
    """Return the cross entropy in nats of a masked-token guess that knows how common each token is, and nothing else.

    It is the entropy of single tokens; where some steps read impressions alone, the mean over both kinds of steps, as if
    the guess knew which kind it is in.

    Args:
        index: Split whose first `reports` readable reports are counted (the order of keys is random).
        tokeniser: The run's.
        report: Which sections and sentences are read, and the share of steps that read impressions alone.
        reports: Enough for two decimals.
    """
    reader = SampleReader(index)
    counts = np.zeros((2, tokeniser.vocab_size), dtype=np.int64)
    for number in range(min(len(index), reports)):
        try:
            whole, short = (read_sentences(reader.meta(number), report, impression=only) for only in (False, True))
        except ValueError:  # the stream names, counts and skips such a record
            continue
        for row, sentences in enumerate((whole, short)):
            tokens = tokeniser.encode([sentences])
            counts[row] += np.bincount(tokens.input_ids[tokens.sentence_index >= 0].numpy(), minlength=counts.shape[1])
    reader.close()
    share = report.impression_share
    return (1 - share) * _entropy(counts[0]) + share * _entropy(counts[1])


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
