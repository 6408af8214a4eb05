"""The files of a packed set but its shards: their names, and a local copy of them for a set that is elsewhere."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from msvl.config.errors import DataError
from msvl.config.private import private_folder
from msvl.data.storage import Location

FORMAT_VERSION = 3
MANIFEST, PROMPTS, TOKENIZER, DROPPED = "manifest.json", "prompts.json", "tokenizer", "dropped.csv"
INDEX = "index"
TOKENS = "tokens"
"""Folder of stored token ids (`token_store`)."""
PART = "part.json"
"""What a part of a packing has instead of a manifest."""
PIECE = 1 << 26
"""Bytes fetched at once: the index of 100 million samples has 8 GB."""


def index_file(split: str) -> str:
    """Return the path of a split's index in the set."""
    return f"{INDEX}/{split}.npy"


def describe_files(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what the manifest says of the files besides shards: name -> bytes and SHA-256."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)} for name in names}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def split_files(*paths: Path | None) -> dict[str, str]:
    """Return the SHA-256 of those files of a data set's own split that are there, for the manifest: name -> digest."""
    return {path.name: file_digest(path) for path in paths if path is not None and path.is_file()}


def user_cache() -> Path:
    """Return the folder for what can be had again, where the user names none."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msvl"


def fetch_small_files(
    location: Location, manifest: bytes, files: Mapping[str, Mapping[str, Any]], cache: Path | None
) -> Path:
    """Return a local folder with manifest, index, prompts and tokenizer: the set's own, or one that is filled from it once.

    Copies lie under the cache folder (without one, `~/.cache/msvl`) by the manifest's hash, each file renamed into place
    when it is whole and right.

    Raises:
        StorageError: a file cannot be had.
        DataError: a file is not the one that the manifest describes.
    """
    if location.is_local:
        for name in files.keys() - {DROPPED}:
            _check_size(location.local_path / name, files[name]["bytes"])
        return location.local_path
    folder = (cache or user_cache()) / "sets" / hashlib.sha256(manifest).hexdigest()[:32]
    try:
        private_folder(folder)  # token ids are words
        # The ranks of a node wait for the one that fetches; the kernel frees the lock of a killed one.
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name in files.keys() - {DROPPED}:
                _fetch(location.join(name), _inside(folder, name), files[name])
            (folder / MANIFEST).write_bytes(manifest)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror}): the index of a remote set is kept there; name another place "
            "with data.cache.folder"
        ) from error
    return folder


def _inside(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the file name {name!r} leads out of the set")
    return folder / path


def _check_size(path: Path, expected: int) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != expected:
        what = "is missing" if size is None else f"has {size:,} bytes instead of {expected:,}"
        raise DataError(f"{path} {what}: copy it again or pack the source again")


def _fetch(origin: Location, path: Path, file: Mapping[str, Any]) -> None:
    total = int(file["bytes"])
    if path.is_file() and path.stat().st_size == total:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    with open(aside, "wb") as stream:
        for start in range(0, total, PIECE):
            piece = origin.read_range(start, min(PIECE, total - start))
            digest.update(piece)
            stream.write(piece)
    if digest.hexdigest() != file["sha256"]:
        raise DataError(f"{origin} is not the file that the manifest describes: copy the set there again")
    aside.replace(path)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest whole or not at all."""
    aside = folder / f".{MANIFEST}.part"
    aside.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    aside.replace(folder / MANIFEST)
