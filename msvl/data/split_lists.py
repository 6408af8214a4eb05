"""Splits by published lists of images: a source whose images go where the lists say, and a manifest that names the lists by SHA-256.

A protocol card says by SHA-256 which lists its figures belong to; `split_lists` of the manifest's `source` answers it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.leaks.layouts import base_name, read_name
from msvl.data.leaks.list_file import Columns, read_list
from msvl.data.packed import SPLITS
from msvl.data.set_folder import file_digest
from msvl.data.study import Entry, Record, Source

logger = logging.getLogger(__name__)
LISTS = "lists"
"""In a sample's `extra`: the lists beside those of the splits that name it, such as train_1 and train_10."""


@dataclass(frozen=True)
class SplitList:
    """A published list of images."""

    name: str
    """train, val or test; any other name is that of a part of train."""
    path: Path
    sha256: str
    """Of the file."""
    images: frozenset[str]
    """Their names, the same however the list writes the path."""


class ListedSource:
    """A source with the splits of lists. Images on no list are train where no list is that of train; else they are left out."""

    def __init__(self, source: Source, lists: Sequence[SplitList], *, as_published: bool) -> None:
        """Remember the lists; nothing is compared with the source yet.

        Args:
            source: Whose images they name.
            lists: At least those of val and test.
            as_published: Whether an image or a patient may be in two splits, as some published lists have it.
        """
        self._source, self._lists, self._as_published = source, tuple(lists), as_published
        self._paths = {item.name: item for item in lists}
        self.name, self.licence, self.shareable = source.name, source.licence, source.shareable
        self.has_reports, self.id_space = source.has_reports, source.id_space
        self.mask_names, self.prompts = source.mask_names, source.prompts

    def settings(self) -> dict[str, Any]:
        """Return what made this source."""
        own = {item.name: item.sha256 for item in self._lists}
        return {**self._source.settings(), "split_lists": own, "as_published": self._as_published}

    def entries(self) -> list[Entry]:
        """List the images of the lists.

        Raises DataError for a list that names images which the source lacks, and for an image in two splits.
        """
        entries = self._source.entries()
        found = {item.name: self._members(item, _by_name(entries)) for item in self._lists}
        splits = {name: found[name] for name in SPLITS if name in found}
        if "train" not in splits:
            splits["train"] = set(range(len(entries))) - set().union(*splits.values())
        self._check_overlap(splits)
        self._check_parts(splits["train"], found)
        listed = [entry for split in SPLITS for entry in _of_split(split, entries, splits[split], found)]
        left_out = len(entries) - len(set().union(*splits.values()))
        if left_out:
            logger.warning("%s: %d images stand on no list and are left out", self.name, left_out)
        return listed

    def record(self, entry: Entry) -> Record:
        """Read one entry."""
        record = self._source.record(entry)
        return replace(record, extra={**record.extra, LISTS: entry.extra[LISTS]}) if LISTS in entry.extra else record

    def _members(self, item: SplitList, by_name: Mapping[str, list[int]]) -> set[int]:
        """Return the places in the listing of the images of a list."""
        unknown = [name for name in item.images if name not in by_name]
        if unknown:
            raise DataError(
                f"{item.path}: {len(unknown):,} of {len(item.images):,} images are not in the source: lists name images of "
                "every view, so try --views all; a list whose names were made anew, as some copies on Kaggle have them, "
                "cannot be used"
            )
        several = [name for name in item.images if len(by_name[name]) > 1]
        if several:
            raise DataError(
                f"{item.path}: {len(several):,} names stand for several images of the source each: the list must name "
                "images with as much of their path as tells them apart"
            )
        return {by_name[name][0] for name in item.images}

    def _check_overlap(self, splits: Mapping[str, set[int]]) -> None:
        for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = splits[first] & splits[second]
            if shared and not self._as_published:
                raise DataError(
                    f"{self._place(first)} and {self._place(second)} have {len(shared):,} images in common (see `msvl data "
                    "leaks` on both): figures would be too good; mend the lists, or give --as-published to reproduce them as "
                    "they are"
                )
            if shared:
                logger.warning(
                    "%s: %s and %s have %d images in common, kept as published: figures are too good by what that gives",
                    self.name, first, second, len(shared),
                )  # fmt: skip

    def _check_parts(self, train: set[int], found: Mapping[str, set[int]]) -> None:
        for item in self._lists:
            outside = found[item.name] - train if item.name not in SPLITS else set()
            if outside and not self._as_published:
                raise DataError(
                    f"{item.path}: {len(outside):,} of its images are not in train: a part of train must be one; mend the lists, "
                    "or give --as-published to leave these out of it"
                )

    def _place(self, split: str) -> str:
        return str(self._paths[split].path) if split in self._paths else f"the images on no list ({split})"


def read_split_lists(words: Sequence[str]) -> list[SplitList]:
    """Read the lists of `--split-list NAME=FILE`.

    Raises DataError for a list that cannot be read, a name that is given twice, and lists without val or test.
    """
    lists: dict[str, SplitList] = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not (name and equals and file):
            raise DataError(f"--split-list {word}: give NAME=FILE, for example test=test_list.txt")
        if name in lists:
            raise DataError(f"--split-list {name}: there are two lists of that name; leave one out")
        path = Path(file)
        rows = read_list(path, Columns()).rows
        lists[name] = SplitList(name, path, file_digest(path), frozenset(_plain(row.path) for row in rows))
    missing = [name for name in ("val", "test") if name not in lists]
    if missing:
        raise DataError(f"--split-list: there is no list for {' and '.join(missing)}: give {missing[0]}=FILE too")
    return list(lists.values())


def _by_name(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """Return every name that a list may have for an entry -> the places of those it could be."""
    places: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        for name in {_plain(text) for text in _names(entry)}:
            places.setdefault(name, []).append(number)
    return places


def _names(entry: Entry) -> Iterator[str]:
    """Yield the image, and its file where the source keeps it: RSNA's images have NIH's names beside their own."""
    yield entry.image
    path = entry.payload.get("path") if isinstance(entry.payload, dict) else entry.payload
    if isinstance(path, str):
        yield path


def _plain(path: str) -> str:
    known = read_name(path)
    return known.image if known else base_name(path)


def _of_split(split: str, entries: Sequence[Entry], places: set[int], found: Mapping[str, set[int]]) -> Iterator[Entry]:
    """Yield the entries of a split; those of train with the further lists that name them."""
    parts = sorted(name for name in found if name not in SPLITS) if split == "train" else []
    for number in sorted(places):
        entry = replace(entries[number], split=split)
        named = [name for name in parts if number in found[name]]
        yield replace(entry, extra={**entry.extra, LISTS: named}) if parts else entry
