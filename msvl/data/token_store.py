"""The token ids of a split in memory-mapped files, made once: what the stream would make of each text, to the bit.

A folder `tokens/KEY`: about.json, and of each reading (the whole report, the impression alone) four arrays. KEY is a hash of
all that decides the ids, so that another tokenizer, index or option finds no folder instead of a wrong one.

n samples of the split, K sentences, T tokens.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msvl.data.flat_reports import FlatReports, stretches

TEXT_VERSION = 3
"""Raised when the code that makes sentences and their hashes from a text changes: a test compares it with a digest."""
ABOUT = "about.json"
READINGS = ("whole", "impression")
"""What a step reads of all reports (`data.report.impression_share`)."""
SENTENCE = np.dtype([("first", "<u8"), ("size", "<u4"), ("text", "<u8")])
"""First token and number of tokens; hash of the normalised sentence."""
Draw = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Counts of sentences -> indices of those that are read, and their counts."""
logger = logging.getLogger(__name__)


class EncodedTexts(NamedTuple):
    """The texts of some samples, in the order of the index; a text that cannot be read has no sentences."""

    reports: FlatReports
    texts: np.ndarray
    """[K] uint64: hash of each normalised sentence."""


@dataclass(frozen=True)
class Reading:
    """What is stored of one way to read the reports. Cheap to pickle: files are mapped where they are first used."""

    folder: Path
    name: str
    tokens_type: str
    words: bool
    """Whether units are words."""

    @cached_property
    def _first(self) -> np.ndarray:
        return _mapped(self.folder / f"{self.name}-reports.bin", "<i8")

    @cached_property
    def _sentences(self) -> np.ndarray:
        return _mapped(self.folder / f"{self.name}-sentences.bin", SENTENCE)

    @cached_property
    def _tokens(self) -> np.ndarray:
        return _mapped(self.folder / f"{self.name}-tokens.bin", self.tokens_type)

    @cached_property
    def _units(self) -> np.ndarray:
        return _mapped(self.folder / f"{self.name}-units.bin", "<u2")

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the mapped files."""
        return type(self), (self.folder, self.name, self.tokens_type, self.words)

    def has(self, row: int) -> bool:
        """Return whether a sample's text could be read."""
        return bool(self._first[row + 1] > self._first[row])

    def take(self, rows: np.ndarray, draw: Draw) -> EncodedTexts:
        """Return the sentences that `draw` chooses of [m] rows."""
        first = self._first[rows]
        counts = self._first[rows + 1] - first
        order, drawn = draw(counts)
        sentences = self._sentences[stretches(first, counts)[order]]
        sizes = sentences["size"].astype(np.int64)
        at = stretches(sentences["first"].astype(np.int64), sizes)
        units = self._units[at] if self.words else None
        return EncodedTexts(FlatReports(self._tokens[at], units, sizes, drawn), sentences["text"])


@dataclass(frozen=True)
class TokenStore:
    """The stored ids of a split."""

    folder: Path
    readings: tuple[Reading, Reading]
    """In the order of READINGS."""


def store_name(facts: Mapping[str, Any]) -> str:
    """Return the folder's name: a hash of all that decides the ids."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def open_store(folder: Path, facts: Mapping[str, Any]) -> TokenStore | None:
    """Map the ids that were made under these facts; None where there are none, or damaged ones (named in the log)."""
    try:
        if not (folder / ABOUT).is_file():
            return None
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["facts"] != facts:
            raise ValueError(f"{ABOUT} tells of other ids")
        for name, file in about["files"].items():
            if (size := (folder / name).stat().st_size) != file["bytes"]:
                raise ValueError(f"{name} has {size:,} bytes instead of {file['bytes']:,}")
        whole, impression = (Reading(folder, name, about["tokens"], facts["unit"] == "word") for name in READINGS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the token ids in %s are damaged (%s) and are made again", folder, error)
        return None
    return TokenStore(folder, (whole, impression))


def write_store(
    folder: Path, facts: Mapping[str, Any], parts: Iterable[Sequence[EncodedTexts]], *, vocabulary: int
) -> list[str]:
    """Write a store into a new folder; return the names of its files.

    Args:
        folder: Where to.
        facts: All that decides the ids.
        parts: The texts of all samples, in the order of the index, some at a time: one per reading.
        vocabulary: Number of ids.
    """
    folder.mkdir(parents=True)
    tokens_type = "<u2" if vocabulary <= 1 << 16 else "<u4"
    writers = [_Writer(folder, name, tokens_type) for name in READINGS]
    for part in parts:
        for writer, texts in zip(writers, part, strict=True):
            writer.add(texts)
    files = {name: about for writer in writers for name, about in writer.close().items()}
    about = {"facts": facts, "tokens": tokens_type, "files": files}
    with open(folder / ABOUT, "w", encoding="utf-8") as stream:
        json.dump(about, stream, indent=1)
        _to_disk(stream)
    return [ABOUT, *files]


def remove_tokens(folders: Sequence[Path], indexes: set[str]) -> None:
    """Remove the stored ids that were made under any of these indexes (SHA-256)."""
    for about in (about for folder in folders for about in folder.glob(f"*/{ABOUT}")):
        if json.loads(about.read_text(encoding="utf-8"))["facts"]["index"] in indexes:
            shutil.rmtree(about.parent)


class _Writer:
    """Appends to the files of a reading."""

    def __init__(self, folder: Path, name: str, tokens_type: str) -> None:
        kinds = {"reports": "<i8", "tokens": tokens_type, "units": "<u2"}
        self._types = {"sentences": SENTENCE} | {name: np.dtype(kind) for name, kind in kinds.items()}
        self._streams = {kind: open(folder / f"{name}-{kind}.bin", "wb") for kind in self._types}  # noqa: SIM115
        self._digests = {kind: hashlib.sha256() for kind in self._types}
        self._sentences = self._tokens = 0
        self._put("reports", np.zeros(1, np.int64))

    def add(self, texts: EncodedTexts) -> None:
        """Write some samples."""
        reports = texts.reports
        ends = np.cumsum(reports.sizes)
        sentences = np.zeros(len(reports.sizes), SENTENCE)
        sentences["first"] = self._tokens + ends - reports.sizes
        sentences["size"], sentences["text"] = reports.sizes, texts.texts
        self._put("reports", self._sentences + np.cumsum(reports.counts))
        self._put("sentences", sentences)
        self._put("tokens", reports.tokens)
        if reports.units is not None:
            self._put("units", reports.units)
        self._sentences += len(reports.sizes)
        self._tokens += len(reports.tokens)

    def close(self) -> dict[str, dict[str, Any]]:
        """Return size and SHA-256 of each file, when all is on the disk."""
        found = {}
        for kind, stream in self._streams.items():
            found[Path(stream.name).name] = {"bytes": stream.tell(), "sha256": self._digests[kind].hexdigest()}
            _to_disk(stream)
            stream.close()
        return found

    def _put(self, kind: str, values: np.ndarray) -> None:
        data = values.astype(self._types[kind]).tobytes()
        self._streams[kind].write(data)
        self._digests[kind].update(data)


def _to_disk(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _mapped(path: Path, kind: str | np.dtype) -> np.ndarray:
    if not path.stat().st_size:
        return np.empty(0, kind)
    # A plain array over the map: indexing a memmap costs a microsecond more.
    return np.asarray(np.memmap(path, kind, mode="r"))
