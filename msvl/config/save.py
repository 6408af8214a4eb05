"""Write the resolved configuration of a run, so that feeding the file back repeats the run."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from msvl.config.base import Config


def config_to_yaml(config: Config) -> str:
    """Render every value, defaults included, as YAML that `load_config` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True, width=110)


def save_config(config: Config, path: str | os.PathLike[str]) -> None:
    """Write `config` to `path`, whole or not at all."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(config_to_yaml(config), encoding="utf-8")
    os.replace(temporary, target)
