"""What a run trains on: the packed sets of `data.path` or `data.mix`, opened, and the plan over them (no torch here)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from msvl.config.errors import DataError
from msvl.data.config import DataConfig
from msvl.data.index import SplitIndex
from msvl.data.packed import PackedSet
from msvl.data.places import Places
from msvl.data.plan import Plan
from msvl.data.subset import subset_digest, subset_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """Sources and their plan."""

    sets: tuple[PackedSet, ...]
    """One, or one per entry of `data.mix`."""
    plan: Plan
    state: dict[str, Any]
    """What decides the sequence beside seed and global batch; a resume must find the same."""

    @classmethod
    def open(cls, config: DataConfig, seed: int, main: PackedSet | None = None) -> TrainingData:
        """Open what the section `data` names.

        Args:
            config: The section.
            seed: The run's.
            main: The set of `config.path`, where it is open already.

        Raises:
            DataError: a set is missing, damaged or has no samples to train on.
        """
        weights = config.mix or {config.path: 1.0}
        sets = tuple(main if main and path == config.path else _open(path, config) for path in weights)
        return cls.of(sets, config, seed)

    @classmethod
    def of(cls, sets: tuple[PackedSet, ...], config: DataConfig, seed: int) -> TrainingData:
        """Plan over open sets, in the order of `data.mix`. Raises DataError when one has no reports or no samples to train on."""
        for packed in sets:
            if not packed.has_reports:
                raise DataError(
                    f"{packed.location} has no reports, and training reads image-report pairs: pack it again with "
                    "--reports-from-labels, or train on another set and judge on this one"
                )
        _warn_of_one_collection(sets)
        weights = list(config.mix.values()) or [1.0]
        plan = plan_of([packed.split(config.train_split) for packed in sets], weights, config, seed)
        state = {
            "lanes": config.lanes,
            "shuffle_window": config.shuffle_window,
            "images": config.images,
            "train_split": config.train_split,
            "mix": [
                {"manifest": packed.fingerprint, "weight": weight} for packed, weight in zip(sets, weights, strict=True)
            ],
            "epoch_samples": plan.epoch_places,
            "subset": subset_digest(config.subset) if config.subset else None,
        }
        return cls(sets, plan, state)

    @property
    def indexes(self) -> tuple[Any, ...]:
        """The index of each source's training split."""
        return tuple(places.index for places in self.plan.sources)


def _warn_of_one_collection(sets: Sequence[PackedSet]) -> None:
    """Tell of sets that are one collection in two forms, such as MIMIC-CXR as DICOM and as equalised JPEG."""
    for first, second in combinations(sets, 2):
        if first.id_space == second.id_space and first.name != second.name:
            logger.warning(
                "data.mix: %s (%s) and %s (%s) are cut from one collection: the same patients are read from both, their images "
                "prepared in two ways; leave one out unless you mean that",
                first.location, first.name, second.location, second.name,
            )  # fmt: skip


def plan_of(indexes: Sequence[SplitIndex], weights: Sequence[float], config: DataConfig, seed: int) -> Plan:
    """Return the plan over the sources' indexes that the section `data` asks for."""
    return Plan(
        [
            Places(index, config.images, seed, kept=subset_rows(index, config.subset) if config.subset else None)
            for index in indexes
        ],
        weights,
        seed=seed,
        lanes=config.lanes,
        window=config.shuffle_window,
        epoch_samples=config.epoch_samples,
    )


def _open(path: str, config: DataConfig) -> PackedSet:
    try:
        return PackedSet.from_config(config, path)
    except DataError as error:
        where = f"data.mix: {error}" if config.mix else str(error)
        raise DataError(where) from error
