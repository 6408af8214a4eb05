"""What the checks of an acceptance work on, and how they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.acceptance.configs import Configs, Form
from launch.acceptance.places import Ended, Place
from msvl.config.errors import ClusterError
from msvl.training.config import PretrainConfig

RANK = ("-m", "msvl.training.acceptance.rank")


class NotPassed(ClusterError):
    """A check that did not pass, and what it found all the same."""

    def __init__(self, says: str, found: dict[str, Any] | None = None) -> None:
        super().__init__(says)
        self.found = found or {}


class CheckFailed(NotPassed):
    """The answer of a check is no."""


class NotRun(NotPassed):
    """A check cannot be made here; the text continues 'because'."""


@dataclass
class Stand:
    """What the checks work on."""

    folder: Path
    place: Place
    base: PretrainConfig
    form: Form
    configs: Configs
    notes: str
    """What of the shipped configuration could not be had here."""
    broken: str | None = None
    """A mistake to make in the gradients, to see the page fail."""
    restart: int = 0
    """How often the job had started before."""
    refused: str | None = None
    """Why the queue would not take the job back."""
    over: str | None = None
    """Why no further check begins."""
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the checks that are over."""

    @property
    def world(self) -> int:
        """Ranks in all."""
        return self.place.nodes * self.place.ranks_per_node

    def log(self, name: str) -> Path:
        """Return where something speaks."""
        path = self.folder / "log" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        return path

    def out(self, name: str) -> Path:
        """Return where ranks leave their findings."""
        path = self.folder / "ranks" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        return path

    def ranks(self, name: str, config: Path, *words: str, seconds: float) -> Ended:
        """Run a task of acceptance as every rank."""
        line = [*RANK, *words[:1], "--config", str(config), *words[1:]]
        return self.place.ranks(line, self.log(name), config=config, seconds=seconds)

    def run_folder(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / name


@dataclass(frozen=True)
class Answer:
    """What a check says when it passes."""

    says: str
    found: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One of the checks."""

    name: str
    title: str
    ask: Callable[[Stand], Answer]
    """Raises CheckFailed, NotRun, QueueNeeded, or a ClusterError, which is a failure too."""
    needs: tuple[str, ...] = ()
    """Checks that must have passed."""
