"""Published weights and tokenizers that a configuration names: which, and whether they can be had. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from msvl.config.errors import ConfigError
from msvl.training.config import PretrainConfig

ASK_SECONDS = 10
"""Patience with the hub before a start."""
RECORD = "msvl-fetched.json"
"""In the cache: what `msvl fetch` brought, with the hash of every file."""


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


def check_named(config: PretrainConfig, *, ask_hub: bool) -> None:
    """Raise ConfigError when a named model cannot be had.

    A name is a path, and has to be a folder, when it begins with '/', '.' or '~' or has more than one '/'. Any other name
    that the cache lacks is asked of the hub, once and without retries; offline, it is refused.

    Args:
        config: The run's.
        ask_hub: False where the job runs on another machine than this one.
    """
    for name, key in hub_names(config).items():
        if name.startswith(("/", ".", "~")) or name.count("/") > 1:
            raise ConfigError(f"{key} '{name}' is no folder: name one that is here ('~' stays as it is), or a hub name")
    for name, key in missing_names(config, default_cache()).items() if ask_hub else ():
        _ask_hub(name, key)


def _ask_hub(name: str, key: str) -> None:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(name, timeout=ASK_SECONDS)
    except Exception as error:
        if not is_hub_fault(error):
            raise
        detail = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{key} '{name}' is neither a folder here nor in {default_cache()}, and the hub does not give it ({detail}): set it "
            "to a folder, or type `msvl fetch CONFIG` on a machine with internet"
        ) from error


def is_hub_fault(error: Exception) -> bool:
    """Return whether an error of huggingface_hub means that the hub was not reached or has no such model."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # Its HTTP library has had three names so far and is not ours to depend on.
    network = type(error).__module__.split(".")[0].startswith("httpx")
    return network or isinstance(error, HfHubHTTPError | HFValidationError | OfflineModeIsEnabled | OSError)


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
