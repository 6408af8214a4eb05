"""Earlier states of a packed set: `history/HASH/` keeps manifest and index from before samples were forgotten.

They hold hashes only, no text and no image. With them the ledger of a run that began before still tells what it has read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.index import SplitIndex, listed_shards
from msvl.data.packed import SPLITS
from msvl.data.set_folder import MANIFEST, index_file
from msvl.data.storage import Location, StorageError

HISTORY = "history"


def state_folder(folder: Path, fingerprint: str) -> Path:
    """Return where the state with this manifest hash is kept."""
    return folder / HISTORY / fingerprint[:32]


def keep_state(folder: Path) -> str:
    """Keep manifest and index of a local set as they are; return the manifest's SHA-256."""
    raw = (folder / MANIFEST).read_bytes()
    fingerprint = hashlib.sha256(raw).hexdigest()
    target = state_folder(folder, fingerprint)
    for name in (*map(index_file, SPLITS), MANIFEST):  # the manifest last: with it the state is whole
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        aside = target / f"{name}.part"
        aside.unlink(missing_ok=True)
        try:
            os.link(folder / name, aside)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / name, aside)
        aside.replace(target / name)
    return fingerprint


def restore_index(folder: Path) -> None:
    """Undo a change that was interrupted between index and manifest: the manifest's own index is put back."""
    kept = state_folder(folder, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest())
    if not (kept / MANIFEST).is_file():
        return
    for name in map(index_file, SPLITS):
        aside = folder / f"{name}.part"
        shutil.copyfile(kept / name, aside)
        aside.replace(folder / name)


def past_indexes(location: Location, fingerprint: str) -> dict[str, SplitIndex]:
    """Return the indexes of a set at the state with this manifest hash.

    Raises DataError when the set keeps no such state.
    """
    if location.is_local:
        kept = state_folder(location.local_path, fingerprint)
        try:
            raw = (kept / MANIFEST).read_bytes()
        except OSError:
            raw = b""
        if hashlib.sha256(raw).hexdigest() == fingerprint:
            return _indexes(location, kept, json.loads(raw))
    raise DataError(
        f"{location} is not the set that the run has read (its manifest hash began with {fingerprint[:12]}) and keeps no "
        "such state in history/: put that set back where it was"
    )


def past_states(location: Location) -> list[str]:
    """Return the manifest hashes of all earlier states of a local set."""
    manifests = sorted((location.local_path / HISTORY).glob(f"*/{MANIFEST}"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in manifests]


def current_fingerprint(location: Location) -> str:
    """Return the hash of the manifest as it is. Raises DataError when there is none."""
    try:
        return hashlib.sha256(location.join(MANIFEST).read_bytes()).hexdigest()
    except StorageError as error:
        raise DataError(f"{location} cannot be opened ({error}): put the set back where it was") from error


def _indexes(location: Location, kept: Path, manifest: dict[str, Any]) -> dict[str, SplitIndex]:
    return {
        split: SplitIndex(split, location, listed_shards(manifest["shards"], split), kept / index_file(split))
        for split in SPLITS
    }
