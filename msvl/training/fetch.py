"""`msvl fetch CONFIG`: on a machine with internet, bring the weights and tokenizers that a configuration names into a cache."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.training.config import PretrainConfig
from msvl.training.hub import (
    RECORD,
    cached_snapshot,
    changed_files,
    default_cache,
    file_hashes,
    hub_names,
    is_hub_fault,
    missing_names,
    read_record,
)

SMALL_FILES = ("*.json", "*.txt", "*.model")
"""Configuration and tokenizers."""


def add_parsers(groups: Any) -> None:
    """Add `msvl fetch`."""
    parser = groups.add_parser(
        "fetch",
        help="bring the named weights and tokenizers into a cache, with hashes",
        description="Download the published weights and tokenizers that a configuration names, on a machine with internet; "
        "cluster jobs read them from the cache and never ask the hub.",
        epilog="Example: msvl fetch configs/pretrain/mimic_cxr.yaml --cache ../hub-cache",
    )
    parser.add_argument("config", help="YAML file, see configs/pretrain/")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="change single values of the configuration"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder that all nodes see (default: the user's hub cache)"
    )
    parser.add_argument(
        "--check", action="store_true", help="only compare the cache with the hashes of what was fetched"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch or check; return 1 when a check finds another file than was fetched."""
    cache = (arguments.cache or default_cache()).absolute()
    config = load_config(arguments.config, arguments.overrides, PretrainConfig)
    names = hub_names(config)
    if not names:
        sys.stdout.write(f"{arguments.config} names nothing that would have to be fetched\n")
        return 0
    if arguments.check:
        return check(cache, names, missing_names(config, cache))
    cache.mkdir(parents=True, exist_ok=True)
    for name, key in names.items():
        revision = fetch(name, cache, key=key)
        sys.stdout.write(f"{name} ({key}): revision {revision}, in {cache}\n")
    sys.stdout.write(f"Next: HUB_CACHE={cache} in slurm/cluster.env\n")
    return 0


def fetch(name: str, cache: Path, *, key: str) -> str:
    """Download a model into the cache and record its hashes; return its revision.

    Raises ConfigError when the hub cannot be reached or has no such model.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = [entry.rfilename for entry in HfApi().model_info(name).siblings or []]
        snapshot = Path(snapshot_download(name, cache_dir=cache, allow_patterns=[*SMALL_FILES, weights_pattern(files)]))
    except Exception as error:
        if not is_hub_fault(error):
            raise
        detail = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{key} '{name}' cannot be fetched: {detail}; type this on a machine with internet"
        ) from error
    record = read_record(cache) | {name: {"revision": snapshot.name, "files": file_hashes(snapshot)}}
    temporary = cache / f".{RECORD}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(temporary, cache / RECORD)
    return snapshot.name


def weights_pattern(files: Sequence[str]) -> str:
    """Return which of a model's weight files to take: safetensors where there are any, else torch's."""
    return "*.safetensors" if any(name.endswith(".safetensors") for name in files) else "pytorch_model*.bin"


def check(cache: Path, names: dict[str, str], missing: dict[str, str]) -> int:
    """Compare the cache with the record; say what differs."""
    faults = 0
    for name in names:
        snapshot, changed = cached_snapshot(cache, name), changed_files(cache, name)
        if name in missing or snapshot is None:
            told = "is not there"
        elif name not in read_record(cache):
            told = "was not brought by `msvl fetch`, so its hashes are not known"
        elif changed:
            told = f"differs from what was fetched: {', '.join(changed)}"
        else:
            sys.stdout.write(f"{name}: as fetched, revision {snapshot.name}\n")
            continue
        faults += 1
        sys.stdout.write(f"{name}: {told}\n")
    return int(faults > 0)
