"""Published weights and tokenizers that a configuration names: which, and whether the cache has them. No torch, no network."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from msvl.config.errors import ConfigError
from msvl.training.config import PretrainConfig

RECORD = "msvl-fetched.json"
"""In the cache: what `msvl fetch` brought, with the hash of every file."""
HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
"""Old models of the hub have no owner."""


def default_cache() -> Path:
    """Return where huggingface_hub keeps what it downloads."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def hub_names(config: PretrainConfig) -> dict[str, str]:
    """Return {hub name: key of the configuration that names it}; local folders are none."""
    named = {
        "model.image.weights": config.model.image.weights,
        "model.text.weights": config.model.text.weights,
        "model.text.tokenizer": config.model.text.tokenizer,
    }
    return {name: key for key, name in named.items() if name and not Path(name).is_dir()}


def check_named(config: PretrainConfig) -> None:
    """Raise ConfigError for a name that is neither a folder nor can be on the hub, or that an offline machine lacks."""
    for name, key in hub_names(config).items():
        if not HUB_NAME.fullmatch(name):
            raise ConfigError(
                f"{key} '{name}': there is no such folder, and no name on the hub has that form (owner/name)"
            )
        if os.environ.get("HF_HUB_OFFLINE") == "1" and cached_snapshot(default_cache(), name) is None:
            raise ConfigError(
                f"{key} '{name}' is not in the cache {default_cache()}, and HF_HUB_OFFLINE=1 keeps it from being fetched: "
                "run `msvl fetch CONFIG` where there is a network, or name a folder"
            )


def cached_snapshot(cache: Path, name: str) -> Path | None:
    """Return the folder in the cache that `name` is loaded from without network, None when it is not there."""
    folder = cache / f"models--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    snapshot = folder / "snapshots" / revision
    return snapshot if (snapshot / "config.json").is_file() else None


def missing_names(config: PretrainConfig, cache: Path) -> dict[str, str]:
    """Return those of `hub_names` that the cache lacks."""
    return {name: key for name, key in hub_names(config).items() if cached_snapshot(cache, name) is None}


def read_record(cache: Path) -> dict[str, Any]:
    """Return {name: {"revision", "files": {path: sha256}}} of what was fetched, empty without a record."""
    path = cache / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def file_hashes(snapshot: Path) -> dict[str, str]:
    """Return {path: SHA-256} of every file of a snapshot."""
    found = {}
    for path in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        with open(path, "rb") as stream:
            found[path.relative_to(snapshot).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def changed_files(cache: Path, name: str) -> list[str]:
    """Return the files whose bytes are not those that were fetched; all of them when the name is not in the cache."""
    recorded: dict[str, str] = read_record(cache).get(name, {}).get("files", {})
    snapshot = cached_snapshot(cache, name)
    found = file_hashes(snapshot) if snapshot else {}
    return [path for path, digest in recorded.items() if found.get(path) != digest]
