"""Boxes of several readers: which mean the same, and how many must agree."""

from __future__ import annotations

import pytest

from msvl.data.box_agreement import ReaderBox, agreed_boxes, overlap

LEFT, RIGHT = (10.0, 10.0, 50.0, 50.0), (200.0, 10.0, 240.0, 50.0)


def moved(edges: tuple[float, ...], by: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (edge + by for edge in edges)
    return left, top, right, bottom


def test_overlap_is_intersection_over_union() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0


def test_agreeing_boxes_become_their_mean() -> None:
    boxes = [ReaderBox("a", LEFT), ReaderBox("b", moved(LEFT, 3)), ReaderBox("c", moved(LEFT, 6))]
    assert agreed_boxes(boxes, agree=2) == [pytest.approx(moved(LEFT, 3))]
    assert agreed_boxes(boxes, agree=3) == [pytest.approx(moved(LEFT, 3))]


def test_two_lesions_of_one_finding_stay_two() -> None:
    boxes = [ReaderBox(reader, edges) for reader in "abc" for edges in (LEFT, RIGHT)]
    assert agreed_boxes(boxes, agree=3) == [LEFT, RIGHT]


def test_what_one_reader_drew_needs_no_more_than_one() -> None:
    boxes = [ReaderBox("a", LEFT), ReaderBox("b", LEFT), ReaderBox("c", RIGHT)]
    assert agreed_boxes(boxes, agree=2) == [LEFT]
    assert agreed_boxes(boxes, agree=1) == [LEFT, RIGHT]


def test_one_reader_who_drew_a_lesion_twice_does_not_agree_with_himself() -> None:
    boxes = [ReaderBox("a", LEFT), ReaderBox("a", moved(LEFT, 1))]
    assert agreed_boxes(boxes, agree=2) == []


def test_the_order_of_rows_does_not_matter() -> None:
    boxes = [
        ReaderBox(reader, moved(edges, shift))
        for reader, shift in (("a", 0), ("b", 9), ("c", 4))
        for edges in (LEFT, RIGHT)
    ]
    assert agreed_boxes(boxes, agree=2) == agreed_boxes(boxes[::-1], agree=2)


def test_nothing_drawn() -> None:
    assert agreed_boxes([], agree=1) == []
