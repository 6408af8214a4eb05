"""Find or make the stored token ids of a split: beside the index, or in the user's cache where the set cannot be written to."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.config.private import private_folder
from msvl.data.config import ReportConfig
from msvl.data.index import SplitIndex
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import read_sentences
from msvl.data.set_folder import TOKENS, index_file, user_cache
from msvl.data.shard_files import ShardFault
from msvl.data.texts import encode_sentences
from msvl.data.token_store import (
    READINGS,
    TEXT_VERSION,
    EncodedTexts,
    TokenStore,
    open_store,
    store_name,
    write_store,
)
from msvl.data.tokenise import ReportTokeniser
from msvl.data.worker_pool import WorkerPool, end_with_parent, in_order

CHUNK = 1000
"""Samples that a process is handed at once."""
ALONE = 20_000
"""Samples up to which starting processes takes longer than it saves."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextSource:
    """The texts of a split and how they become ids."""

    index: SplitIndex
    index_sha256: str
    """Of the file: it holds the checksum of every text."""
    tokeniser: ReportTokeniser
    report: ReportConfig
    folders: Sequence[Path] = field(default=())
    """Where stored ids may lie, the best first."""

    @classmethod
    def of(cls, packed: PackedSet, split: str, tokeniser: ReportTokeniser, report: ReportConfig) -> TextSource:
        """Return the texts of a packed set's split. Raises DataError when the split is empty."""
        sha256 = packed.manifest["files"][index_file(split)]["sha256"]
        folders = (packed.path / TOKENS, user_cache() / TOKENS)
        return cls(packed.split(split), sha256, tokeniser, report, folders)

    @property
    def name(self) -> str:
        """Name of the folder of their ids."""
        return store_name(self.facts)

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides the ids."""
        return {
            "code": TEXT_VERSION,
            "tokenizer": self.tokeniser.digest,
            "index": self.index_sha256,
            "split": self.index.split,
            "caption": self.index.caption,
            "sections": list(self.report.sections),
            "min_words": self.report.min_words,
            "unit": self.report.unit,
        }


def find_tokens(source: TextSource) -> TokenStore | None:
    """Return the stored ids, or None where there are none."""
    facts, name = source.facts, source.name
    return next((found for folder in source.folders if (found := open_store(folder / name, facts))), None)


def tokens_of_run(
    sets: Sequence[PackedSet], split: str, tokeniser: ReportTokeniser, report: ReportConfig
) -> list[TokenStore | None]:
    """Return the stored ids of every set that a run reads; those of local shards are made where there are none.

    None where shards are elsewhere and nobody has made them: all texts would have to be fetched before the first step.

    Raises:
        DataError: as `stored_tokens`.
    """
    found: list[TokenStore | None] = []
    for packed in sets:
        source = TextSource.of(packed, split, tokeniser, report)
        index = source.index
        if all(index.shard_location(number).is_local for number in range(len(index.shards))):
            found.append(stored_tokens(source, workers=os.cpu_count() or 1))
            continue
        found.append(find_tokens(source))
        if found[-1] is None:
            logger.warning(
                "%s: the texts are tokenised as they are read; `msvl data tokenise %s --tokenizer %s` makes their ids once",
                packed.location, packed.location, tokeniser.folder,
            )  # fmt: skip
    return found


def stored_tokens(source: TextSource, *, workers: int, progress: bool = True) -> TokenStore:
    """Return the stored ids; where there are none, make them. The processes of a node that ask at once make them once.

    Args:
        source: Texts and options.
        workers: Processes.
        progress: Whether to show a bar.

    Raises:
        DataError: they cannot be written anywhere, or texts of a remote set cannot be had.
    """
    found = find_tokens(source)
    if found is not None:
        return found
    reasons = []
    for folder in source.folders:
        try:
            return _make(source, folder, workers=workers, progress=progress)
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror or error})")
    raise DataError(
        f"the token ids can be kept nowhere: {', '.join(reasons)}: free space, name a writable XDG_CACHE_HOME, or set "
        "data.token_ids=online"
    )


def write_tokens(source: TextSource, folder: Path, *, workers: int, progress: bool) -> list[str]:
    """Tokenise all texts into a new folder; return the names of its files."""
    parts = _encoded(source, workers)
    total = -(-len(source.index) // CHUNK) * CHUNK
    with tqdm(
        total=total, unit="text", desc=f"tokenising {source.index.split}", disable=not progress, delay=2.0
    ) as bar:
        return write_store(folder, source.facts, _counted(parts, bar), vocabulary=source.tokeniser.vocab_size)


def _make(source: TextSource, folder: Path, *, workers: int, progress: bool) -> TokenStore:
    if folder.is_relative_to(user_cache()):
        private_folder(folder)  # ids are words
    else:
        folder.mkdir(exist_ok=True)
    facts, name = source.facts, source.name
    with open(folder / "lock", "w") as lock:
        # Others wait for the one that makes them; the kernel frees the lock of a killed one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = open_store(folder / name, facts)
        if found is not None:
            return found
        for left in folder.glob(".*.part"):
            shutil.rmtree(left)
        aside = folder / f".{name}.part"
        try:
            write_tokens(source, aside, workers=workers, progress=progress)
            shutil.rmtree(folder / name, ignore_errors=True)  # damaged ones
            os.rename(aside, folder / name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    found = open_store(folder / name, facts)
    assert found is not None, "they were written just now"
    return found


def _encoded(source: TextSource, workers: int) -> Iterator[list[EncodedTexts]]:
    index = source.index
    chunks = [range(start, min(start + CHUNK, len(index))) for start in range(0, len(index), CHUNK)]
    if workers == 1 or len(index) <= ALONE:
        reader = SampleReader(index)
        yield from (_encode(reader, rows, source.tokeniser, source.report) for rows in chunks)
        reader.close()
        return
    arguments = (index, source.tokeniser.folder, source.report, os.getpid())
    with WorkerPool(workers, _start_worker, arguments) as pool:
        yield from in_order(pool, _encode_chunk, chunks, ahead=4 * workers)


_WORKER: dict[str, Any] = {}
"""Set once per worker process by its initializer."""


def _start_worker(index: SplitIndex, tokenizer: str, report: ReportConfig, parent: int) -> None:
    end_with_parent(parent)
    _WORKER.update(reader=SampleReader(index), tokeniser=ReportTokeniser(tokenizer, report), report=report)


def _encode_chunk(rows: range) -> list[EncodedTexts]:
    return _encode(_WORKER["reader"], rows, _WORKER["tokeniser"], _WORKER["report"])


def _encode(reader: SampleReader, rows: range, tokeniser: ReportTokeniser, report: ReportConfig) -> list[EncodedTexts]:
    """Return the texts of some rows, for each reading."""
    found: list[list[Sequence[str]]] = [[] for _ in READINGS]
    for row in rows:
        try:
            meta = reader.meta(row)
            sentences = [read_sentences(meta, report, impression=bool(number)) for number in range(len(READINGS))]
        except ValueError as error:
            if isinstance(error, ShardFault) and not reader.index.shard_location(error.shard).is_local:
                raise DataError(f"{reader.shard(row)}: {error}") from error
            sentences = [()] * len(READINGS)  # the stream reads it anew, and names what is wrong
        for texts, part in zip(found, sentences, strict=True):
            texts.append(part)
    return [
        encode_sentences(
            [sentence for text in texts for sentence in text],
            np.array([len(text) for text in texts]),
            tokeniser,
            report,
        )
        for texts in found
    ]


def _counted(parts: Iterator[list[EncodedTexts]], bar: tqdm) -> Iterator[list[EncodedTexts]]:
    for part in parts:
        yield part
        bar.update(CHUNK)
