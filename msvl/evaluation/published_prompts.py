"""Prompt sets that ship as data files in `prompt_sets/`: a template for every finding, and own prompts for some."""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from msvl.config.base import Config
from msvl.config.errors import ConfigError
from msvl.config.load import check_config, parse_yaml
from msvl.evaluation.prompts import PACKED_FILE, FindingPrompts, PromptSet, choose_prompts, read_prompts

FOLDER = "prompt_sets"
OWN = "own"
"""Name of the packed set's own prompts, or MaCo's template where it brings none."""


class Sides(Config):
    """Positive and negative prompts; {} stands for the finding in lower case."""

    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = Field(min_length=1)


class PromptFile(Config):
    """A prompt set as it ships."""

    origin: str
    """repository:path."""
    template: Sides
    findings: dict[str, Sides] = {}
    """Findings with prompts of their own, by name in lower case."""


def prompt_set_names() -> list[str]:
    """Return the sets that ship."""
    folder = importlib.resources.files("msvl.evaluation").joinpath(FOLDER)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def published_prompts(name: str, findings: Sequence[str], names: Mapping[str, str] | None = None) -> PromptSet:
    """Return the prompts of a set that ships for these findings, some under other names.

    Raises ConfigError naming the nearest set.
    """
    if name not in prompt_set_names():
        close = difflib.get_close_matches(name, prompt_set_names(), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"there is no prompt set '{name}': {', '.join(prompt_set_names())} ship.{hint}")
    text = importlib.resources.files("msvl.evaluation").joinpath(FOLDER, f"{name}.yaml").read_text(encoding="utf-8")
    file = check_config(parse_yaml(text, f"prompt set {name}"), PromptFile, f"prompt set {name}")
    return PromptSet({finding: _filled(file, (names or {}).get(finding, finding)) for finding in findings}, origin=name)


def every_prompt_set(
    findings: Sequence[str], packed_folder: Path, names: Mapping[str, str] | None = None
) -> dict[str, PromptSet]:
    """Return all sets that ship and the packed set's own for these findings, to see how much the wording matters."""
    sets = {name: published_prompts(name, findings, names) for name in prompt_set_names()}
    if (packed_folder / PACKED_FILE).is_file():
        own = read_prompts(packed_folder / PACKED_FILE)
        if set(findings) <= set(own):
            sets[OWN] = PromptSet({name: own[name] for name in findings}, origin=OWN)
    return sets


def card_prompts(
    name: str, findings: Sequence[str], packed_folder: Path, names: Mapping[str, str] | None = None
) -> PromptSet:
    """Return the prompts that a card asks for; `names` are the findings' words in a published set."""
    if name == OWN:
        return choose_prompts(list(findings), packed_folder=packed_folder)
    return published_prompts(name, findings, names)


def _filled(file: PromptFile, finding: str) -> FindingPrompts:
    words = finding.replace("_", " ").lower()
    sides = file.findings.get(words, file.template)
    return FindingPrompts(
        positive=tuple(text.format(words) for text in sides.positive),
        negative=tuple(text.format(words) for text in sides.negative),
    )
