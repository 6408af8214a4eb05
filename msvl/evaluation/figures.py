"""Figures as files: `runs/NAME/evaluation/NAME.json` of one judgement, and `results.json` of the whole run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.config.private import private_folder

CHANCE = "_chance"
INTERVAL = "_interval"
UNTRAINED = "_untrained"
SETTINGS = frozenset({"sigma", "strength"})
"""Numbers that are no figures."""


def with_untrained(trained: Mapping[str, Any], untrained: Mapping[str, Any]) -> dict[str, Any]:
    """Put the untrained model's figures beside the trained one's.

    Its NAME and NAME_interval become NAME_untrained and NAME_untrained_interval. What no model can change (chance
    levels, counts, words, the pixel baseline) is not repeated.
    """
    merged: dict[str, Any] = {}
    for task, figures in trained.items():
        merged[task] = dict(figures)
        if task == "pixel_baseline" or task not in untrained:
            continue
        for name, value in untrained[task].items():
            stem = name.removesuffix(INTERVAL)
            no_interval = name.endswith(INTERVAL) and value is None
            if stem.endswith(CHANCE) or name in SETTINGS or not (_is_figure(value) or no_interval):
                continue
            merged[task][stem + UNTRAINED + name[len(stem) :]] = value
    return merged


def _is_figure(value: Any) -> bool:
    """Floats, intervals and floats per finding are figures; counts and words are not."""
    if isinstance(value, dict):
        return all(_is_figure(item) for item in value.values())
    if isinstance(value, list):
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write atomically, indented, keys in the order given.

    Raises:
        DataError: The file cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        private_folder(path.parent)
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"{path} could not be written ({error.strerror}): free space or choose another folder"
        ) from error


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: The file is missing (the message names the command that makes it) or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}: make it with `{made_by}`") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable as JSON: make it again with `{made_by}`") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} and not an object: make it again with `{made_by}`")
    return content
