"""Finished units -> a packed set: index, dropped.csv, prompts, tokenizer and, last, the manifest."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from msvl.config.errors import DataError
from msvl.data import set_folder
from msvl.data.config import ReportConfig
from msvl.data.index import SplitIndex, listed_shards, split_counts, write_records
from msvl.data.packed import SPLITS
from msvl.data.partial import Dropped, UnitRecord
from msvl.data.reader import SampleReader
from msvl.data.storage import open_location

UNKNOWN_GREY = {"pixel_mean": 0.5, "pixel_std": 0.25}
"""Of a set that nothing is trained on."""


def seal(folder: Path, header: Mapping[str, Any], units: Sequence[UnitRecord], *, workers: int = 1) -> dict[str, Any]:
    """Write everything but the shards, which lie in `folder` already; return the manifest.

    A pure function of header and units in their order, so that a set packed in parts has the bytes of one packed in one go.
    May be repeated after a kill.

    Args:
        folder: Where the shards are.
        header: Of the packing: `set` (name, licence, ...), `source`, `options`.
        units: All of them, ordered by split and number.
        workers: Processes that tokenise.
    """
    records, shards = _number_shards(units)
    dropped = [item for unit in units for item in unit.dropped]
    names = write_lists(folder, records, dropped)
    about = dict(header["set"])
    prompts = about.pop("prompts")
    if prompts:
        names.append(set_folder.PROMPTS)
        (folder / names[-1]).write_text(json.dumps(prompts, indent=1), encoding="utf-8")
    vocabulary = header["options"]["tokenizer_vocabulary"]
    if vocabulary:
        train = listed_shards(shards, "train")
        index = SplitIndex("train", open_location(folder), train, folder / set_folder.index_file("train"))
        names += train_tokenizer_of(index, vocabulary, folder, workers=workers)
    manifest = {
        "format": set_folder.FORMAT_VERSION,
        **about,
        "source": header["source"],
        "options": header["options"],
        "counts": {split: split_counts(parts) for split, parts in records.items()},
        "dropped": dict(Counter(item.reason for item in dropped)),
        **_pixel_statistics(units),
        "shards": shards,
        "files": set_folder.describe_files(folder, names),
    }
    set_folder.write_manifest(folder, manifest)
    return manifest


def check_drops(units: Sequence[UnitRecord], total: int, max_share: float) -> None:
    """Raise DataError when more records were left out than may be, or nothing is kept of all `total`."""
    dropped = [item for unit in units for item in unit.dropped]
    if len(dropped) < total and len(dropped) <= max_share * total:
        return
    examples = "; ".join(f"{item.where}: {item.reason}" for item in dropped[:3])
    raise DataError(
        f"{len(dropped):,} of {total:,} records cannot be used (at most {max_share:.0%} may be, --max-dropped): {examples}"
    )


def _number_shards(units: Sequence[UnitRecord]) -> tuple[dict[str, list[np.ndarray]], list[dict[str, Any]]]:
    """Return the index records of each split with their shards' numbers, and the manifest's list of shards."""
    records: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    shards: list[dict[str, Any]] = []
    numbers = {split: count() for split in SPLITS}
    for unit in units:
        of_unit = {place: next(numbers[unit.split]) for place in range(len(unit.shards))}
        if of_unit:
            part = unit.records.copy()
            part["shard"] = np.array([of_unit[place] for place in range(len(of_unit))])[part["shard"]]
            records[unit.split].append(part)
            shards += unit.shards
    return records, shards


def _pixel_statistics(units: Sequence[UnitRecord]) -> dict[str, float]:
    """Return mean and standard deviation of the training images' grey values in [0, 1]."""
    sums = [unit.pixels for unit in units if unit.split == "train"]
    total, squares, pixels = (sum(column) for column in zip(*sums, strict=True)) if sums else (0, 0, 0)
    return grey_statistics(total / pixels / 255, squares / pixels / 255**2) if pixels else UNKNOWN_GREY


def grey_statistics(mean: float, mean_square: float) -> dict[str, float]:
    """Return the manifest's mean and standard deviation of grey values in [0, 1]."""
    variance = max(mean_square - mean**2, 1e-6)
    return {"pixel_mean": round(mean, 6), "pixel_std": round(math.sqrt(variance), 6)}


def write_lists(folder: Path, records: Mapping[str, Sequence[np.ndarray]], dropped: Sequence[Dropped]) -> list[str]:
    """Write the index of every split and dropped.csv; return their names.

    Args:
        folder: Where to.
        records: Per split, its records by shard.
        dropped: What was left out, records of a study next to each other: a row each.
    """
    (folder / set_folder.INDEX).mkdir(parents=True, exist_ok=True)
    names = [set_folder.index_file(split) for split in SPLITS]
    for split, name in zip(SPLITS, names, strict=True):
        write_records(folder / name, records[split])
    with open(folder / set_folder.DROPPED, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "key", "where", "reason"])
        writer.writerows([item.study, item.key, item.where, item.reason] for item in dropped)
    return [*names, set_folder.DROPPED]


def train_tokenizer_of(index: SplitIndex, vocabulary: int, folder: Path, *, workers: int) -> list[str]:
    """Train a tokenizer on the reports of a split, in their order, and store their ids; return the files made in `folder`."""
    # Both import torch, which packing itself does without.
    from msvl.data.make_tokens import TextSource, write_tokens
    from msvl.data.tokenise import ReportTokeniser, train_tokenizer

    train_tokenizer(_reports(index), vocabulary, folder / set_folder.TOKENIZER)
    tokeniser = ReportTokeniser(str(folder / set_folder.TOKENIZER), ReportConfig())
    index_sha256 = set_folder.file_digest(folder / set_folder.index_file(index.split))
    texts = TextSource(index, index_sha256, tokeniser, ReportConfig())
    shutil.rmtree(folder / set_folder.TOKENS, ignore_errors=True)  # of one that was killed here
    write_tokens(texts, folder / set_folder.TOKENS / texts.name, workers=workers, progress=False)
    made = [path for part in (set_folder.TOKENIZER, set_folder.TOKENS) for path in (folder / part).rglob("*")]
    return sorted(path.relative_to(folder).as_posix() for path in made if path.is_file())


def _reports(index: SplitIndex) -> Iterator[str]:
    reader = SampleReader(index)
    for number in range(len(index)):
        yield reader.meta(number)["report"]
    reader.close()
