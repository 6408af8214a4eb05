"""A packed set on a local disk -> a URL: shard by shard, the manifest last, so that no reader sees a part of a set."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data.packed import PackedSet
from msvl.data.set_folder import MANIFEST, user_cache
from msvl.data.storage import Location, open_location

UPLOADED = ".uploaded"
"""In the staged set: the names of files that are there already, one a line."""


def staging_folder(url: str, base: Path | None) -> Path:
    """Return where a set for a URL is packed first: the same for the same URL, so that an interrupted one goes on."""
    root = base or user_cache() / "staging"
    name = url.rstrip("/").rpartition("/")[2].partition("?")[0]
    return root / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def published(url: str, recorded: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a set that is at the URL already; None where there is none.

    Raises DataError when it is another one.
    """
    location = open_location(url)
    if url.startswith(("http://", "https://")):
        raise DataError(f"--out {location}: plain HTTP cannot be written to; give a folder, s3:// or gs://")
    if not location.join(MANIFEST).exists():
        return None
    manifest = PackedSet.open(url).manifest
    if {name: manifest[name] for name in recorded} != recorded:
        raise DataError(f"{location} holds a set of another source or other options; remove it or choose another --out")
    return manifest


def publish(folder: Path, url: str, *, progress: bool = True) -> None:
    """Upload a set and remove the local one. May be repeated after a kill: what was uploaded is not sent again.

    Raises DataError when the store refuses.
    """
    target = open_location(url)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    log = folder / UPLOADED
    there = set(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else set()
    names = [*(shard["file"] for shard in manifest["shards"]), *manifest["files"]]
    with open(log, "a", encoding="utf-8") as stream:
        for name in tqdm(names, unit="file", desc=f"uploading to {target}", disable=not progress):
            if name not in there:
                _put(target, folder, name)
                stream.write(f"{name}\n")
                stream.flush()
    _put(target, folder, MANIFEST)
    shutil.rmtree(folder)


def _put(target: Location, folder: Path, name: str) -> None:
    target.join(name).put_file(folder / name)
