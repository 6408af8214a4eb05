"""Protocol cards: what exactly a number was measured by. Data files in `protocols/`, one per protocol (no torch here)."""

from __future__ import annotations

import difflib
import hashlib
import importlib.resources
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from msvl.config.base import Config
from msvl.config.errors import ConfigError
from msvl.config.load import check_config, parse_yaml
from msvl.data.uncertainty import Policy
from msvl.evaluation.recipes import (
    FineTuneRecipe,
    GroundingRecipe,
    ProbeRecipe,
    RetrievalRecipe,
    SegmentationRecipe,
    ZeroShotRecipe,
)

CardTask = Literal["linear_probe", "fine_tuned", "segmentation", "zero_shot", "grounding", "retrieval"]
ANY = "any"
"""Data set name of the card that holds for every packed set without one of its own, the phantom included."""

FOLDER = "protocols"


class SplitList(Config):
    """A published list of images."""

    origin: str
    """repository:path, or how it is made."""
    sha256: str | None = None
    """Of the file; null where it is made by a rule."""
    images: int | None = Field(None, ge=0)
    """How many it lists; null where that is not known."""


class Card(Config):
    """How one task is judged on one data set."""

    task: CardTask
    data: str
    """Data set, as packed sets are named; 'any' for every other one."""
    splits: dict[str, SplitList] = {}
    """Split -> list; empty is the packed set's own splits by patient."""
    labels: str = ""
    """Which labels, in words."""
    findings: tuple[str, ...] = ()
    """Findings that count, as the packed set names them; empty is every one but those that say that nothing was found."""
    uncertain: Policy = "ignore"
    """What uncertain labels count as, see `msvl.data.uncertainty`."""
    blank: Literal["unknown", "absent"] = "unknown"
    """What labels that are not mentioned count as; the published CheXpert protocols take them for absent."""
    linear_probe: ProbeRecipe | None = None
    fine_tuned: FineTuneRecipe | None = None
    segmentation: SegmentationRecipe | None = None
    zero_shot: ZeroShotRecipe | None = None
    grounding: GroundingRecipe | None = None
    retrieval: RetrievalRecipe | None = None
    selection: str = ""
    """By what the best step on val is known, in words. Fine-tuning and segmentation go by the headline; MGCA's probe by its loss."""
    headline: str
    """The figure that is quoted: its name among the task's figures."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the trainings; the mean over them is quoted."""
    deviations: tuple[str, ...] = ()
    """What msvl does otherwise than the source."""
    leaks: tuple[str, ...] = ()
    """What is known to be wrong with the published protocol."""
    sources: tuple[str, ...] = ()
    """Where the facts stand."""

    @model_validator(mode="after")
    def _check(self) -> Card:
        recipes = [name for name in ("linear_probe", "fine_tuned", "segmentation", "zero_shot", "grounding", "retrieval")
                   if getattr(self, name) is not None]  # fmt: skip
        if recipes != [self.task]:
            raise ValueError(f"a card of task {self.task} needs the section '{self.task}' alone, found {recipes}")
        return self

    @cached_property
    def digest(self) -> str:
        """Return 12 hexadecimal digits over everything that the card says."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Protocol(Config):
    """The cards of one way to judge."""

    name: str
    title: str
    summary: str
    """What it is for, in a sentence or two."""
    twin: str | None = None
    """Protocol whose figures stand beside those of a leaky card."""
    cards: tuple[Card, ...]

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        names = [(card.task, card.data) for card in self.cards]
        doubled = sorted({f"{task}/{data}" for task, data in names if names.count((task, data)) > 1})
        if doubled:
            raise ValueError(f"the cards {', '.join(doubled)} stand twice")
        return self

    def card(self, task: str, data: str) -> Card | None:
        """Return the card of a task on a data set: its own, else the one for any data, else None."""
        own = {card.data: card for card in self.cards if card.task == task}
        return own.get(data, own.get(ANY))


def protocol_names() -> list[str]:
    """Return the protocols that ship."""
    folder = importlib.resources.files("msvl.evaluation").joinpath(FOLDER)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_protocol(name: str) -> Protocol:
    """Return a protocol that ships, by name, or of a YAML file.

    Raises:
        ConfigError: There is none, or the file is wrong; names the nearest one, or every fault.
    """
    if name in protocol_names():
        file = importlib.resources.files("msvl.evaluation").joinpath(FOLDER, f"{name}.yaml")
        return _parse(file.read_text(encoding="utf-8"), f"protocol {name}")
    path = Path(name)
    if path.is_file():
        return _parse(path.read_text(encoding="utf-8"), str(path))
    close = difflib.get_close_matches(name, protocol_names(), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ConfigError(f"there is no protocol '{name}': {', '.join(protocol_names())} ship, or name a YAML file.{hint}")


def _parse(text: str, where: str) -> Protocol:
    tree: Any = parse_yaml(text, where)
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: expected a mapping with name, title, summary and cards")
    return check_config(tree, Protocol, where)
