"""What is compared: arguments of the command, each with its splits, each sample by hashes of what names it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from msvl.data.identity import stable_id

NOTHING = 0
"""Stands for a name that is not known: never equal to another."""


def no_detail(row: int) -> None:
    """Return None: of lists there are no pictures."""


@dataclass(frozen=True)
class Group:
    """The samples of one split of an argument; arrays have one entry per sample, `NOTHING` where a name is not known."""

    split: str
    """Empty for a list that names no splits."""
    samples: np.ndarray
    """[n] names as the owner of the data knows them: keys of a packed set, image names of a list."""
    patients: np.ndarray
    """[n] uint64"""
    studies: np.ndarray
    """[n] uint64"""
    images: np.ndarray
    """[n] uint64: of the pixels (packed sets), of the name (lists)."""
    texts: np.ndarray
    """[n] uint64"""
    prints: np.ndarray | None
    """[n, bytes] uint8 fingerprints for near-duplicates; all zero where an image has none. None for lists."""
    detail: Callable[[int], np.ndarray | None] = no_detail
    """Sample -> the detail of its picture, None where it cannot be read."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)


@dataclass(frozen=True)
class Register:
    """What patients are named by, which decides whether equal patients of two arguments have equal hashes."""

    secret: str
    """What the hashes are keyed by."""
    id_space: str
    """Who gave the patients their numbers: `1` of one hospital is nobody of another. Empty: not stated."""
    about: str
    """Both in words."""
    fingerprint: str = ""
    """Of a packed set: the same set has the same patients, whatever is stated."""

    def shares(self, other: Register) -> bool:
        """Return whether patients can be compared."""
        if self.fingerprint and self.fingerprint == other.fingerprint:
            return True
        return bool(self.id_space) and (self.secret, self.id_space) == (other.secret, other.id_space)


@dataclass(frozen=True)
class Argument:
    """A packed set or a list, as the user named it."""

    title: str
    groups: tuple[Group, ...]
    kind: str
    """`set` or `list`: images of one are known by pixels, of the other by name."""
    register: Register
    text_kind: str
    """What of a report was hashed: `sentences` or `whole`."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as images that cannot be read."""

    def joined(self) -> Group:
        """Return all samples as one group."""
        parts = self.groups
        starts = np.cumsum([0, *map(len, parts)])

        def detail(row: int) -> np.ndarray | None:
            part = int(np.searchsorted(starts, row, side="right")) - 1
            return parts[part].detail(row - int(starts[part]))

        prints = [part.prints for part in parts if part.prints is not None]
        return Group(
            split="",
            samples=np.concatenate([part.samples for part in parts]),
            patients=np.concatenate([part.patients for part in parts]),
            studies=np.concatenate([part.studies for part in parts]),
            images=np.concatenate([part.images for part in parts]),
            texts=np.concatenate([part.texts for part in parts]),
            prints=np.concatenate(prints) if prints else None,
            detail=detail,
        )


def hashes(values: Iterable[str]) -> np.ndarray:
    """Return a hash per name, `NOTHING` for empty ones: [n] uint64."""
    return np.array([stable_id(value) | 1 << 63 if value else NOTHING for value in values], dtype=np.uint64)
