"""What the tasks are given: annotations of the held-out set and the model's embeddings of it.

N images, P phrase-image pairs, C channels, T training images of the probe, F feature channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from msvl.config.errors import DataError
from msvl.evaluation.bootstrap import Interval, NoInterval
from msvl.evaluation.encoders import EncodedImages
from msvl.evaluation.prompts import PromptSet

Figures = dict[
    str, "None | float | int | str | list[float] | dict[str, float] | dict[str, int] | dict[str, list[float]]"
]
"""Figures of one task as in results.json: NAME, NAME_interval, NAME_chance, and one level of findings below."""


@dataclass(frozen=True)
class Pair:
    """A phrase, the image it belongs to and the union of its boxes in that image."""

    row: int
    """Row of the image set."""
    phrase: str
    finding: str
    boxes: tuple[tuple[float, float, float, float], ...]
    """(x, y, w, h) in pixels of the model's square."""


@dataclass(frozen=True)
class ProbeMaterial:
    """Labelled training images for the linear probe."""

    features: Tensor
    """[T, F]."""
    images: Tensor
    """[T, 1, H, W] uint8, for the pixel baseline."""
    labels: dict[str, NDArray[np.int64]]
    patients: list[str]


@dataclass(frozen=True)
class Material:
    """Annotations and embeddings of the judged images."""

    images: Tensor
    """[N, 1, H, W] uint8."""
    patients: list[str]
    studies: list[str]
    texts: list[str]
    """Hash of the sentences that the model reads of each report: equal text, equal hash."""
    labels: dict[str, NDArray[np.int64]]
    """Finding -> [N] of 1 present, 0 absent; anything else is uncertain or unknown."""
    encoded: EncodedImages
    reports: Tensor | None = None
    """[N, C] unit length; None when no task needs it."""
    prompts: PromptSet | None = None
    prompt_embeddings: Tensor | None = None
    """[2 * findings, C] unit length, positive and negative ensemble of each finding in turn."""
    pairs: tuple[Pair, ...] = ()
    """Aligned with `encoded.pair_maps`."""
    probe: ProbeMaterial | None = None


class NotJudgeable(DataError):
    """The data lacks what a task needs: an error where the task was asked for by name, else it is left out."""


def put(figures: Figures, name: str, value: float, interval: Interval) -> None:
    """Write a figure and its interval; null and the reason where the data give none, nothing where none was asked for."""
    figures[name] = float(value)
    if isinstance(interval, NoInterval):
        figures[f"{name}_interval"] = None
        figures[f"{name}_interval_missing"] = interval.reason
    elif interval is not None:
        figures[f"{name}_interval"] = list(interval)
