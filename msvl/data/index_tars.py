"""Existing WebDataset tars (image and text) made usable in place: a manifest and an index that point at them."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data import set_folder
from msvl.data.images import decode_image
from msvl.data.index import SplitIndex, listed_shards, record_type, split_counts, study_starts
from msvl.data.packed import OWN, SPLITS
from msvl.data.reader import SampleReader
from msvl.data.seal import UNKNOWN_GREY, grey_statistics, train_tokenizer_of, write_lists
from msvl.data.storage import open_location
from msvl.data.tar_listing import Fields, TarListing, list_tar
from msvl.data.worker_pool import WorkerPool

logger = logging.getLogger(__name__)
STATISTICS = 256
"""Training images that the pixel statistics are taken from."""


@dataclass(frozen=True)
class IndexOptions:
    """How tars of another origin are read."""

    fields: Fields = Fields()
    split: str | None = None
    """The split of all samples; None draws by a hash of the patient."""
    val_share: float = 0.1
    test_share: float = 0.1
    name: str = "tars"
    licence: str = "not stated"
    tokenizer_vocabulary: int = 0
    """Train a WordPiece tokenizer of this size on the training captions; 0 trains none."""


def index_tars(
    tars: Sequence[str], out: Path, options: IndexOptions, *, workers: int = 1, progress: bool = True
) -> dict[str, Any]:
    """Read every tar once and write manifest and index into `out`; return the manifest.

    Raises DataError when a tar cannot be had, keys repeat within a tar, nothing is usable, or `out` exists.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} exists: remove it or choose another --out")
    listings = _listings(tars, options.fields, workers=workers, progress=progress)
    keys = _unique_keys(listings)
    aside = out.with_name(f".{out.name}.partial")
    shards: list[dict[str, Any]] = []
    records: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for listing, names in zip(listings, keys, strict=True):
        for split, rows in _by_split(listing.records, options).items():
            if not len(rows):
                continue
            part = _with_keys(listing.records[rows], [names[row] for row in rows])
            part["shard"] = len(records[split])
            records[split].append(part)
            shards.append(_shard(listing, split, part, out))
    if not shards:
        reasons = Counter(item.reason for listing in listings for item in listing.dropped).most_common(3)
        raise DataError(
            f"no sample of {len(tars)} tars can be used: {', '.join(r for r, _ in reasons) or 'they are empty'}"
        )
    _warn_of_scattered(records)
    manifest = _write(aside, out, options, records, shards, listings)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        out.rmdir()
    aside.rename(out)
    return manifest


def _listings(tars: Sequence[str], fields: Fields, *, workers: int, progress: bool) -> list[TarListing]:
    places = [tar if "://" in tar else str(Path(tar).resolve()) for tar in tars]
    read = partial(list_tar, fields=fields)
    pause = 0.1 if sys.stderr.isatty() else 10.0  # a log is no terminal
    with ExitStack() as stack:
        found: Iterator[TarListing] = map(read, places)
        if workers > 1:
            found = stack.enter_context(WorkerPool(workers)).map(read, places)
        listings = list(
            tqdm(found, total=len(places), unit="tar", desc="indexing", disable=not progress, mininterval=pause)
        )
    for listing in listings:
        if listing.damage:
            logger.warning(
                "tar %s cannot be read to its end (%s): its first %d samples are used", open_location(listing.file),
                listing.damage, len(listing.keys),
            )  # fmt: skip
    return listings


def _unique_keys(listings: Sequence[TarListing]) -> list[list[str]]:
    """Return the keys of each tar, with the tar's name in front where tars share keys. Raises DataError for repeated ones."""
    for listing in listings:
        repeated = next((key for key, times in Counter(listing.keys).items() if times > 1), None)
        if repeated is not None:
            first, second = [number for number, key in enumerate(listing.keys, 1) if key == repeated][:2]
            raise DataError(
                f"{open_location(listing.file)}: its samples {first} and {second} have the same key: write the tar again"
            )
    keys = [listing.keys for listing in listings]
    if len({key for part in keys for key in part}) < sum(map(len, keys)):
        keys = [[f"{open_location(item.file).name}/{key}" for key in item.keys] for item in listings]
    if len({key for part in keys for key in part}) < sum(map(len, keys)):
        raise DataError("tars of the same name share keys: rename one of them")
    return keys


def _by_split(records: np.ndarray, options: IndexOptions) -> dict[str, np.ndarray]:
    if options.split:
        return {options.split: np.arange(len(records))}
    place = records["patient"] / 2.0**64
    test, val = place < options.test_share, place < options.test_share + options.val_share
    return {
        "train": np.flatnonzero(~val),
        "val": np.flatnonzero(val & ~test),
        "test": np.flatnonzero(test),
    }


def _with_keys(records: np.ndarray, keys: list[str]) -> np.ndarray:
    encoded = np.array([key.encode() for key in keys])
    named = np.zeros(len(records), dtype=record_type(encoded.dtype.str))
    for name in set(record_type().names or ()) - {"key"}:
        named[name] = records[name]
    named["key"] = encoded
    return named


def _shard(listing: TarListing, split: str, records: np.ndarray, out: Path) -> dict[str, Any]:
    file = listing.file
    if "://" not in file and Path(file).is_relative_to(out.resolve()):
        file = str(Path(file).relative_to(out.resolve()))
    return {
        "split": split,
        "file": file,
        "samples": len(records),
        "studies": len(study_starts(records["study"])),
        "bytes": listing.bytes,
        "sha256": listing.sha256,
    }


def _warn_of_scattered(records: dict[str, list[np.ndarray]]) -> None:
    for split, parts in records.items():
        if parts:
            _, times = np.unique(np.concatenate([np.unique(part["study"]) for part in parts]), return_counts=True)
            if (times > 1).any():
                logger.warning(
                    "%d studies of split %s lie in more than one tar: where one image of a study is drawn per epoch, it is "
                    "one per tar; `msvl data pack` would bring them together", int((times > 1).sum()), split,
                )  # fmt: skip


def _write(
    folder: Path, out: Path, options: IndexOptions, records: dict[str, list[np.ndarray]], shards: list[dict[str, Any]],
    listings: Sequence[TarListing],
) -> dict[str, Any]:  # fmt: skip
    dropped = [item for listing in listings for item in listing.dropped]
    names = write_lists(folder, records, dropped)
    train = listed_shards(shards, "train")
    index = SplitIndex(
        "train", open_location(out), train, folder / set_folder.index_file("train"), caption=options.fields.caption
    )
    if options.tokenizer_vocabulary:
        names += train_tokenizer_of(index, options.tokenizer_vocabulary, folder, workers=1)
    fields = options.fields
    manifest = {
        "format": set_folder.FORMAT_VERSION,
        "name": options.name,
        "licence": options.licence,
        "shareable": False,
        "reports": OWN,
        "mask_bits": [],
        "caption": fields.caption,
        "source": {"tars": len(listings), "patient": fields.patient, "study": fields.study},
        "options": {
            name: getattr(options, name) for name in ("split", "val_share", "test_share", "tokenizer_vocabulary")
        },
        "counts": {split: split_counts(parts) for split, parts in records.items()},
        "dropped": dict(Counter(item.reason for item in dropped)),
        **_pixel_statistics(index),
        "shards": shards,
        "files": set_folder.describe_files(folder, names),
    }
    set_folder.write_manifest(folder, manifest)
    return manifest


def _pixel_statistics(index: SplitIndex) -> dict[str, float]:
    """Return mean and standard deviation of grey values in [0, 1] over a seeded sample of the training images."""
    rows = np.random.default_rng(0).permutation(len(index))[:STATISTICS]
    sums = np.zeros(3)
    reader = SampleReader(index)
    for row in rows.tolist():
        try:
            image = decode_image(reader.image(row)) / 255.0
        except ValueError as error:  # the stream names, counts and skips it
            logger.warning("sample %s of %s cannot be used: %s", reader.shown_key(row), reader.shard(row), error)
            continue
        sums += (image.sum(), np.square(image).sum(), image.size)
    reader.close()
    return grey_statistics(sums[0] / sums[2], sums[1] / sums[2]) if sums[2] else UNKNOWN_GREY
