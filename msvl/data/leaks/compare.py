"""What two groups of samples have in common, and which of it is a leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from msvl.data.leaks.confirm import confirm
from msvl.data.leaks.group import NOTHING, Argument, Group
from msvl.data.leaks.near import find_pairs

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
    candidates: int
    """Of these, images whose picture, or its partner's, could not be read again: near by their fingerprints alone."""
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


@dataclass(frozen=True)
class NearPairs:
    """Pairs of rows of two groups whose images are near-duplicates."""

    rows: np.ndarray
    """[k, 2] int64"""
    unread: np.ndarray
    """[k] bool: near by their fingerprints alone."""

    def part(self, first: slice, second: slice) -> NearPairs:
        """Return those of a stretch of either group, by their rows there."""
        one, other = self.rows.T
        inside = (one >= first.start) & (one < first.stop) & (other >= second.start) & (other < second.stop)
        return NearPairs(self.rows[inside] - [first.start, second.start], self.unread[inside])


Search = Callable[[Group, Group], NearPairs | None]


def compare_all(arguments: Sequence[Argument], *, within: int, progress: bool = False) -> list[Overlap]:
    """Compare the splits of every argument, every pair of arguments as a whole, and their splits against train.

    Args:
        arguments: Sets and lists.
        within: Bits that may differ between near-duplicates.
        progress: Whether to show bars.
    """

    def search(first: Group, second: Group) -> NearPairs | None:
        if first.prints is None or second.prints is None:
            return None
        pairs = find_pairs(first.prints, second.prints, within=within, progress=progress)
        kept, unread = confirm(pairs, first, second, progress=progress)
        return NearPairs(pairs[kept], unread[kept])

    found: list[Overlap] = []
    for argument in arguments:
        splits = {group.split: group for group in argument.groups}
        for one, other in WITHIN_SET:
            if one in splits and other in splits:
                sides = Side(argument.title, one), Side(argument.title, other)
                near = search(splits[one], splits[other])
                found.append(_overlap(sides, splits[one], splits[other], (argument, argument), near))
    for first, second in combinations(arguments, 2):
        found += _across(first, second, search)
    return found


def _across(first: Argument, second: Argument, search: Search) -> list[Overlap]:
    """Compare two arguments as a whole, then by splits."""
    one, other = first.joined(), second.joined()
    near = search(one, other)
    found = [_overlap((Side(first.title, ""), Side(second.title, "")), one, other, (first, second), near)]
    for left, rows in zip(first.groups, _stretches(first.groups), strict=True):
        for right, columns in zip(second.groups, _stretches(second.groups), strict=True):
            if (left.split, right.split) in ACROSS_SETS:
                sides = Side(first.title, left.split), Side(second.title, right.split)
                part = near.part(rows, columns) if near else None
                found.append(_overlap(sides, left, right, (first, second), part))
    return found


def _stretches(groups: Sequence[Group]) -> list[slice]:
    """Return where each group lies when they are joined."""
    ends = np.cumsum([len(group) for group in groups]).tolist()
    return [slice(end - len(group), end) for group, end in zip(groups, ends, strict=True)]


def _overlap(
    sides: tuple[Side, Side], first: Group, second: Group, owners: tuple[Argument, Argument], near: NearPairs | None
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
    count, candidates = None, 0
    if near is not None:
        equal = np.isin(second.images, first.images) & (second.images != NOTHING)
        copies = np.bincount(near.rows[:, 1], minlength=len(second)).astype(bool) & ~equal
        seen = np.bincount(near.rows[~near.unread, 1], minlength=len(second)).astype(bool)
        count, candidates = int(copies.sum()), int((copies & ~seen).sum())
        leaking[0][near.rows[:, 0]] = True
        leaking[1][near.rows[:, 1]] = True
    return Overlap(
        *sides,
        patients=patients,
        studies=shared("studies") if people else None,
        images=images,
        near=count,
        candidates=candidates,
        texts=shared("texts") if owners[0].text_kind == owners[1].text_kind else None,
        reached=int(leaking[1].sum()),
        size=len(second),
        leaking_first=leaking[0],
        leaking_second=leaking[1],
    )
