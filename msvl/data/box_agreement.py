"""Boxes that several readers drew around the same thing -> one box each, with the number of readers who agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

SAME_OVERLAP = 0.4
"""Intersection over union from which two boxes mean the same lesion; BenchX fuses VinDr's boxes with it."""


@dataclass(frozen=True)
class ReaderBox:
    """A box as one reader drew it: left, top, right, bottom in pixels."""

    reader: str
    edges: tuple[float, float, float, float]


@dataclass
class _Lesion:
    boxes: list[ReaderBox] = field(default_factory=list)

    @property
    def edges(self) -> np.ndarray:
        return np.mean([box.edges for box in self.boxes], axis=0)

    @property
    def readers(self) -> set[str]:
        return {box.reader for box in self.boxes}


def agreed_boxes(boxes: Sequence[ReaderBox], agree: int) -> list[tuple[float, float, float, float]]:
    """Return (left, top, right, bottom) of every lesion that at least `agree` readers boxed: the mean of their boxes.

    Each box, in the order of readers, joins the lesion that it overlaps most, where that is SAME_OVERLAP or more and its
    reader has no box there yet; else it begins a new one. So two lesions of one finding stay two.
    """
    lesions: list[_Lesion] = []
    for box in sorted(boxes, key=lambda box: (box.reader, box.edges)):
        free = [lesion for lesion in lesions if box.reader not in lesion.readers]
        best = max(free, key=lambda lesion: overlap(lesion.edges, box.edges), default=None)
        if best is None or overlap(best.edges, box.edges) < SAME_OVERLAP:
            best = _Lesion()
            lesions.append(best)
        best.boxes.append(box)
    return [tuple(map(float, lesion.edges)) for lesion in lesions if len(lesion.readers) >= agree]  # type: ignore[misc]


def overlap(one: Iterable[float], other: Iterable[float]) -> float:
    """Return intersection over union of two boxes given by left, top, right, bottom."""
    (left, top, right, bottom), (other_left, other_top, other_right, other_bottom) = one, other
    width = min(right, other_right) - max(left, other_left)
    height = min(bottom, other_bottom) - max(top, other_top)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top) - common)
