"""The tokenised sentences of several reports laid end to end, and their matrices of fixed width (numpy alone).

R reports, K sentences, T tokens, L token capacity, P places (units that a report may have).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from msvl.data.draws import uniform

Sampling = Literal["all", "shuffle", "random_subset"]


class FlatReports(NamedTuple):
    """Reports after each other, their sentences after each other, their tokens after each other."""

    tokens: np.ndarray
    """[T] ids."""
    units: np.ndarray | None
    """[T] unit of its sentence that a token belongs to, from 0, never falling; None where a sentence is one unit."""
    sizes: np.ndarray
    """[K] tokens of each sentence, 0 allowed."""
    counts: np.ndarray
    """[R] sentences of each report, at least 1."""


class Matrices(NamedTuple):
    """Reports as rows."""

    input_ids: np.ndarray
    """[R, L] int64."""
    lengths: np.ndarray
    """[R] tokens with [CLS] and [SEP]."""
    places: np.ndarray
    """[R, L] int64: the place that a token belongs to, -1 for special tokens and padding."""
    filled: np.ndarray
    """[R, P] bool."""


def stretches(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the indices start, start + 1, ... of several stretches, end to end."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def draw_sentences(counts: np.ndarray, mode: Sampling, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the sentences that training reads: all, shuffled, or a random non-empty subset in random order (MaCo).

    Args:
        counts: [R] sentences of each report.
        mode: Which.
        states: [R] streams of `stream_states` that decide.

    Returns:
        [K] indices into all sentences laid end to end, report by report, and their [R] number in each report.
    """
    if mode == "all":
        return np.arange(counts.sum()), counts
    report = np.repeat(np.arange(len(counts)), counts)
    number = stretches(np.zeros_like(counts), counts)
    order = np.lexsort((uniform(states[report], number + 1), report))
    if mode == "shuffle":
        return order, counts
    kept = 1 + (uniform(states, np.zeros_like(counts)) * counts).astype(np.int64)
    return order[number < kept[report]], kept


def reordered(parts: Sequence[tuple[np.ndarray, FlatReports]]) -> FlatReports:
    """Join reports in the order of their numbers; every part has the numbers of its reports."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([numbers for numbers, _ in parts]))
    flats = [flat for _, flat in parts]
    units = [flat.units for flat in flats if flat.units is not None]
    tokens, sizes, counts = (
        np.concatenate([getattr(flat, name) for flat in flats]) for name in ("tokens", "sizes", "counts")
    )
    lengths = _sums(sizes, counts)
    sentences = stretches((np.cumsum(counts) - counts)[order], counts[order])
    at = stretches((np.cumsum(lengths) - lengths)[order], lengths[order])
    return FlatReports(tokens[at], np.concatenate(units)[at] if units else None, sizes[sentences], counts[order])


def lay_out(reports: FlatReports, *, length: int, places: int, pad: int, cls: int, sep: int) -> Matrices:
    """Return [CLS], the sentences one after the other, [SEP], padding.

    Sentences beyond the capacity of L tokens or P places are left out whole, and all after them; a first sentence that is too
    long by itself is cut.

    Raises:
        ValueError: a report has no token.
    """
    tokens, sizes, counts = reports.tokens, reports.sizes, reports.counts
    before = np.cumsum(sizes) - sizes
    widths = _widths(reports)
    report = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    used = np.cumsum(sizes) - before[first][report]
    taken = np.cumsum(widths) - (np.cumsum(widths) - widths)[first][report]
    fits = (used <= length - 2) & (taken <= places)
    kept = _sums(np.where(fits, sizes, 0), counts)
    filled = _sums(np.where(fits, widths, 0), counts)
    for row in np.flatnonzero(kept == 0):
        kept[row], filled[row] = _cut(reports, before, slice(first[row], first[row] + counts[row]), length - 2, places)
    at = stretches(before[first], kept)
    place = np.repeat(taken - widths, sizes)
    if reports.units is not None:
        place = place + reports.units
    columns = np.arange(length)
    inside = (columns > 0) & (columns <= kept[:, None])
    matrices = Matrices(
        input_ids=np.full((len(counts), length), pad, dtype=np.int64),
        lengths=kept + 2,
        places=np.full((len(counts), length), -1, dtype=np.int64),
        filled=np.arange(places) < filled[:, None],
    )
    matrices.input_ids[inside] = tokens[at]
    matrices.places[inside] = place[at]
    matrices.input_ids[:, 0] = cls
    matrices.input_ids[np.arange(len(counts)), kept + 1] = sep
    return matrices


def _widths(reports: FlatReports) -> np.ndarray:
    """Return how many places each sentence needs: [K]."""
    some = reports.sizes > 0
    if reports.units is None:
        return some.astype(np.int64)
    widths = np.zeros(len(reports.sizes), dtype=np.int64)
    widths[some] = reports.units[np.cumsum(reports.sizes)[some] - 1].astype(np.int64) + 1
    return widths


def _cut(reports: FlatReports, before: np.ndarray, sentences: slice, room: int, places: int) -> tuple[int, int]:
    """Return how many tokens of a report's first sentence fit, and the places they fill."""
    sizes = reports.sizes[sentences]
    if not sizes.any():
        raise ValueError("a report without a token")
    number = int(np.flatnonzero(sizes)[0])
    start = int(before[sentences][number])
    count = min(int(sizes[number]), room)
    if reports.units is None:
        return count, 1
    units = reports.units[start : start + count]
    count = int((units < places).sum())
    return count, int(units[count - 1]) + 1


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sum over each report's sentences: [R] int64."""
    return np.add.reduceat(values, np.cumsum(counts) - counts).astype(np.int64) if len(counts) else counts
