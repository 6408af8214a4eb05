"""Flat reports to matrices against a loop that is easy to read, and the draw of sentences."""

from __future__ import annotations

import numpy as np
import pytest

from msvl.data.flat_reports import FlatReports, draw_sentences, lay_out, reordered

PAD, CLS, SEP = 0, 2, 3


def random_reports(rng: np.random.Generator, reports: int, *, words: bool) -> list[list[tuple[list[int], list[int]]]]:
    """Return reports of sentences of (tokens, units): some sentences are empty, some far too long."""
    found = []
    for _ in range(reports):
        report = []
        for _ in range(rng.integers(1, 6)):
            size = int(rng.choice([0, 1, 3, 5, 9, 30]))
            starts = np.concatenate([[0], rng.integers(0, 2, size)])[:size]  # a word of one to several tokens
            units = np.cumsum(starts).tolist() if words else [0] * size
            report.append((rng.integers(10, 99, size).tolist(), units))
        if not any(tokens for tokens, _ in report):
            report.append(([7], [0]))
        found.append(report)
    return found


def flattened(reports: list[list[tuple[list[int], list[int]]]], *, words: bool) -> FlatReports:
    sentences = [sentence for report in reports for sentence in report]
    units = np.array([unit for _, units in sentences for unit in units], dtype=np.int64)
    return FlatReports(
        tokens=np.array([token for tokens, _ in sentences for token in tokens], dtype=np.int64),
        units=units if words else None,
        sizes=np.array([len(tokens) for tokens, _ in sentences]),
        counts=np.array([len(report) for report in reports]),
    )


def expected_row(
    report: list[tuple[list[int], list[int]]], length: int, places: int
) -> tuple[list[int], list[int], int]:
    """Fill one row sentence by sentence; return its tokens, their places, and how many places are filled."""
    tokens, where, filled = [CLS], [-1], 0
    for ids, units in report:
        if not ids:
            continue
        if len(tokens) + len(ids) > length - 1 or filled + units[-1] + 1 > places:
            if filled:
                break
            kept = [(token, unit) for token, unit in zip(ids, units, strict=True) if unit < places]
            ids, units = map(list, zip(*kept[: length - 2], strict=True))
        tokens += ids
        where += [filled + unit for unit in units]
        filled += units[-1] + 1
    return [*tokens, SEP], [*where, -1], filled


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize(("length", "places"), [(24, 4), (12, 2), (3, 1), (200, 100)])
def test_rows_are_those_of_a_plain_loop(words: bool, length: int, places: int) -> None:
    rng = np.random.default_rng(length)
    for _ in range(30):
        reports = random_reports(rng, 7, words=words)
        found = lay_out(flattened(reports, words=words), length=length, places=places, pad=PAD, cls=CLS, sep=SEP)
        for row, report in enumerate(reports):
            tokens, where, filled = expected_row(report, length, places)
            rest = length - len(tokens)
            assert found.input_ids[row].tolist() == tokens + [PAD] * rest
            assert found.places[row].tolist() == where + [-1] * rest
            assert found.lengths[row] == len(tokens)
            assert found.filled[row].tolist() == [place < filled for place in range(places)]


def test_a_report_without_a_token_is_refused() -> None:
    empty = FlatReports(np.empty(0, np.int64), None, np.array([0]), np.array([1]))
    with pytest.raises(ValueError, match="a report without a token"):
        lay_out(empty, length=8, places=2, pad=PAD, cls=CLS, sep=SEP)


@pytest.mark.parametrize("words", [False, True])
def test_parts_are_joined_in_the_order_of_their_reports(words: bool) -> None:
    reports = random_reports(np.random.default_rng(1), 9, words=words)
    split = [np.array([7, 0, 4]), np.array([8, 3]), np.array([1, 2, 6, 5])]
    parts = [(numbers, flattened([reports[number] for number in numbers], words=words)) for numbers in split]
    joined, whole = reordered(parts), flattened(reports, words=words)
    for name in ("tokens", "sizes", "counts") + (("units",) if words else ()):
        assert np.array_equal(getattr(joined, name), getattr(whole, name)), name


def draw(mode: str, counts: list[int], states: int) -> list[list[int]]:
    order, kept = draw_sentences(np.array(counts), mode, np.arange(states, states + len(counts), dtype=np.uint64))
    return [part.tolist() for part in np.split(order, np.cumsum(kept)[:-1])]


def test_sentences_are_read_as_they_stand_shuffled_or_in_part() -> None:
    assert draw("all", [2, 3], 0) == [[0, 1], [2, 3, 4]]
    shuffled = [draw("shuffle", [4, 1, 3], 10 * seed) for seed in range(200)]
    assert all([sorted(part) for part in one] == [[0, 1, 2, 3], [4], [5, 6, 7]] for one in shuffled)
    assert len({tuple(one[0]) for one in shuffled}) == 24
    subsets = [draw("random_subset", [4, 1], 10 * seed) for seed in range(400)]
    sizes = np.bincount([len(one[0]) for one in subsets])
    assert sizes[0] == 0 and (sizes[1:] > 60).all(), "1 to 4 sentences, equally often"
    assert all(len(set(one[0])) == len(one[0]) and set(one[0]) <= {0, 1, 2, 3} and one[1] == [4] for one in subsets)
    firsts = np.bincount([one[0][0] for one in subsets])
    assert (firsts > 60).all()
