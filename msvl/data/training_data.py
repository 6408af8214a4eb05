"""What a run trains on: the packed sets of `data.path` or `data.mix`, opened, and the plan over them (no torch here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msvl.config.errors import DataError
from msvl.data.config import DataConfig
from msvl.data.packed import PackedSet
from msvl.data.places import Places
from msvl.data.plan import Plan


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
        """Plan over open sets, in the order of `data.mix`. Raises DataError when one has no samples to train on."""
        weights = list(config.mix.values()) or [1.0]
        sources = [Places(packed.split(config.train_split), config.images, seed) for packed in sets]
        plan = Plan(
            sources,
            weights,
            seed=seed,
            lanes=config.lanes,
            window=config.shuffle_window,
            epoch_samples=config.epoch_samples,
        )
        state = {
            "lanes": config.lanes,
            "shuffle_window": config.shuffle_window,
            "images": config.images,
            "train_split": config.train_split,
            "mix": [
                {"manifest": packed.fingerprint, "weight": weight} for packed, weight in zip(sets, weights, strict=True)
            ],
            "epoch_samples": plan.epoch_places,
        }
        return cls(sets, plan, state)

    @property
    def indexes(self) -> tuple[Any, ...]:
        """The index of each source's training split."""
        return tuple(places.index for places in self.plan.sources)


def _open(path: str, config: DataConfig) -> PackedSet:
    try:
        return PackedSet.open(path, max_bad_share=config.max_bad_share, remote=config.remote, cache=config.cache)
    except DataError as error:
        where = f"data.mix: {error}" if config.mix else str(error)
        raise DataError(where) from error
