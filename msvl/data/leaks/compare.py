"""What two groups of samples have in common, and which of it is a leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from msvl.data.leaks.group import NOTHING, Argument, Group
from msvl.data.leaks.near import NONE, Nearest, find_nearest

WITHIN_SET = (("train", "val"), ("train", "test"), ("val", "test"))
ACROSS_SETS = (("train", "val"), ("train", "test"), ("val", "train"), ("test", "train"))
"""Pairs of splits that are told apart."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    title: str
    split: str
    """Empty: all of the argument."""

    def __str__(self) -> str:
        return f"{self.title} {self.split}".strip()


@dataclass(frozen=True)
class Overlap:
    """What two sides share; None is what cannot be compared."""

    first: Side
    second: Side
    patients: int | None
    """Different patients that both have."""
    studies: int | None
    images: int | None
    """Different images that both have, by hash of the pixels or by name."""
    near: int | None
    """Images of the second that are near-duplicates of one of the first, beyond those in `images`."""
    texts: int | None
    """Different texts that both have: reported, no leak."""
    reached: int
    """Images of the second whose patient, pixels or near-duplicate the first has."""
    size: int
    """Images of the second."""
    leaking_first: np.ndarray
    """[n] bool: samples of the first that share a patient or an image with the second."""
    leaking_second: np.ndarray
    """[m] bool"""

    @property
    def leaks(self) -> bool:
        """Return whether a patient or an image is shared."""
        return bool(self.patients or self.images or self.near)


Search = Callable[[np.ndarray, np.ndarray], Nearest]


def compare_all(arguments: Sequence[Argument], *, within: int, progress: bool = False) -> list[Overlap]:
    """Compare the splits of every argument, every pair of arguments as a whole, and their splits against train.

    Args:
        arguments: Sets and lists.
        within: Bits that may differ between near-duplicates.
        progress: Whether to show bars.
    """

    def search(first: np.ndarray, second: np.ndarray) -> Nearest:
        return find_nearest(first, second, within=within, progress=progress)

    found: list[Overlap] = []
    for argument in arguments:
        splits = {group.split: group for group in argument.groups}
        for one, other in WITHIN_SET:
            if one in splits and other in splits:
                sides = Side(argument.title, one), Side(argument.title, other)
                found.append(_overlap(sides, splits[one], splits[other], (argument, argument), search))
    for first, second in combinations(arguments, 2):
        found += _across(first, second, search)
    return found


def _across(first: Argument, second: Argument, search: Search) -> list[Overlap]:
    """Compare two arguments as a whole, then by splits."""
    one, other = first.joined(), second.joined()
    whole = _overlap((Side(first.title, ""), Side(second.title, "")), one, other, (first, second), search)
    found = [whole]
    for left in first.groups:
        for right in second.groups:
            if (left.split, right.split) in ACROSS_SETS:
                sides = Side(first.title, left.split), Side(second.title, right.split)
                # Of a pair without anything near, no part has.
                narrow = search if whole.near or whole.images else _nothing_near
                found.append(_overlap(sides, left, right, (first, second), narrow))
    return found


def _nothing_near(first: np.ndarray, second: np.ndarray) -> Nearest:
    return Nearest(np.full(len(first), NONE), np.full(len(second), NONE))


def _overlap(
    sides: tuple[Side, Side], first: Group, second: Group, owners: tuple[Argument, Argument], search: Search
) -> Overlap:
    same_kind = owners[0].kind == owners[1].kind
    people = owners[0].register.shares(owners[1].register)
    leaking = [np.zeros(len(first), dtype=bool), np.zeros(len(second), dtype=bool)]

    def shared(name: str) -> int | None:
        left, right = getattr(first, name), getattr(second, name)
        if not left.any() or not right.any():  # no name is known
            return None
        common = np.setdiff1d(np.intersect1d(left, right), [NOTHING])
        if name in ("patients", "images"):
            leaking[0] |= np.isin(left, common)
            leaking[1] |= np.isin(right, common)
        return len(common)

    patients = shared("patients") if people else None
    images = shared("images") if same_kind else None
    near = None
    if first.prints is not None and second.prints is not None:
        nearest = search(first.prints, second.prints)
        equal = np.isin(second.images, first.images) & (second.images != NOTHING)
        near = int(((nearest.second != NONE) & ~equal).sum())
        leaking[0] |= nearest.first != NONE
        leaking[1] |= nearest.second != NONE
    return Overlap(
        *sides,
        patients=patients,
        studies=shared("studies") if people else None,
        images=images,
        near=near,
        texts=shared("texts") if owners[0].text_kind == owners[1].text_kind else None,
        reached=int(leaking[1].sum()),
        size=len(second),
        leaking_first=leaking[0],
        leaking_second=leaking[1],
    )
