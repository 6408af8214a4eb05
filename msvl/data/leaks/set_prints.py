"""Hash and fingerprint of every image of a split, read from its shards by several processes and kept beside the set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from msvl.data.identity import stable_id
from msvl.data.index import SplitIndex
from msvl.data.leaks.fingerprint import BYTES, VERSION, fingerprint
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.set_folder import user_cache
from msvl.data.worker_pool import WorkerPool
from msvl.environment import die_with_parent

FOLDER = "fingerprints"
CHUNK = 256
"""Samples that a process is handed at once."""
ALONE = 1000
"""Up to so many samples are read by this process: others take a second to start."""
PRINT = np.dtype([("image", "<u8"), ("bits", "u1", (BYTES,)), ("state", "u1")])
WHOLE, FLAT, UNREADABLE = range(3)
"""States: an image with a fingerprint, one without structure, one that cannot be read."""


@dataclass(frozen=True)
class Prints:
    """What is known of a split's images."""

    records: np.ndarray
    """[n] of `PRINT`, in the order of the index."""
    kept_in: Path | None
    """The file that keeps them; None where none can be written."""


def prints_of(packed: PackedSet, split: str, *, workers: int, progress: bool = True) -> Prints:
    """Return hashes and fingerprints of a split: those kept of this very set, else computed and kept.

    They lie in the set's folder, or where that is not writable or elsewhere in the user's cache folder.
    """
    index = packed.split(split)
    title = f"{packed.fingerprint} {VERSION}"
    places = _places(packed, split)
    for place in places:
        kept = _load(place, title, len(index))
        if kept is not None:
            return Prints(kept, place)
    records = _compute(index, workers=workers, progress=progress, title=f"{packed.location} {split}")
    return Prints(records, next((place for place in places if _save(place, title, records)), None))


def _places(packed: PackedSet, split: str) -> list[Path]:
    cache = user_cache() / FOLDER / packed.fingerprint[:32] / f"{split}.npz"
    return [packed.path / FOLDER / f"{split}.npz", cache] if packed.location.is_local else [cache]


def _load(place: Path, title: str, count: int) -> np.ndarray | None:
    try:
        with np.load(place, allow_pickle=False) as content:
            records = content["records"]
            fits = str(content["title"]) == title and records.dtype == PRINT and len(records) == count
            return records if fits else None
    except (OSError, ValueError, KeyError, EOFError):  # absent, cut or of another kind: computed again
        return None


def _save(place: Path, title: str, records: np.ndarray) -> bool:
    """Write whole or not at all, readable by the owner alone; return whether that was possible."""
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as stream:
            np.savez(stream, title=np.array(title), records=records)
        aside.replace(place)
    except OSError:
        return False
    return True


def _compute(index: SplitIndex, *, workers: int, progress: bool, title: str) -> np.ndarray:
    chunks = [range(start, min(start + CHUNK, len(index))) for start in range(0, len(index), CHUNK)]
    records: list[np.ndarray] = []
    with tqdm(total=len(index), unit="image", desc=f"reading {title}", disable=not progress, mininterval=0.5) as bar:
        for part in _parts(index, chunks, workers if len(index) > ALONE else 1):
            records.append(part)
            bar.update(len(part))
    return np.concatenate(records)


def _parts(index: SplitIndex, chunks: list[range], workers: int) -> Iterator[np.ndarray]:
    if workers == 1:
        cv2.setNumThreads(1)
        reader = SampleReader(index)
        yield from (_read(reader, rows) for rows in chunks)
        reader.close()
        return
    with WorkerPool(workers, _start, (index,)) as pool:
        try:
            yield from pool.map(_read_in_worker, chunks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_WORKER: dict[str, Any] = {}
"""Set once per worker process by its initializer."""


def _start(index: SplitIndex) -> None:
    die_with_parent()
    cv2.setNumThreads(1)
    _WORKER["reader"] = SampleReader(index)


def _read_in_worker(rows: range) -> np.ndarray:
    return _read(_WORKER["reader"], rows)


def _read(reader: SampleReader, rows: range) -> np.ndarray:
    found = np.zeros(len(rows), dtype=PRINT)
    for place, row in enumerate(rows):
        try:
            data = reader.image(row)
            found["image"][place] = _image_hash(reader, row, data)
            bits = fingerprint(data)
        except (ValueError, KeyError, TypeError):  # `msvl data verify` names it and says why
            found[place] = 0
            found["state"][place] = UNREADABLE
            continue
        if bits is None:
            found["state"][place] = FLAT
        else:
            found["bits"][place] = bits
    return found


def _image_hash(reader: SampleReader, row: int, data: bytes) -> int:
    """Return the hash of the pixels before compression, or of the file where the set was not packed by msvl."""
    if reader.index.caption is None:
        return int(reader.meta(row)["image_hash"], 16)
    return stable_id(data.hex())
