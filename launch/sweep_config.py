"""configs/sweep/*.yaml: which runs a sweep has, as a list, a grid or random draws of overrides."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from msvl.config.base import Config

Value = str | int | float | bool | None
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Draw(Config):
    """Where a random value comes from; exactly one of these."""

    choice: tuple[Value, ...] | None = None
    """One of these."""
    uniform: tuple[float, float] | None = None
    """Evenly between two bounds."""
    log_uniform: tuple[float, float] | None = None
    """Evenly in the logarithm between two positive bounds."""

    @model_validator(mode="after")
    def _check(self) -> Draw:
        if sum(way is not None for way in (self.choice, self.uniform, self.log_uniform)) != 1:
            raise ValueError("give exactly one of choice, uniform and log_uniform")
        for bounds in (self.uniform, self.log_uniform):
            if bounds and not bounds[0] < bounds[1]:
                raise ValueError(f"expected lower < upper, found {list(bounds)}")
        if self.log_uniform and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform needs positive bounds, found {list(self.log_uniform)}")
        return self

    def value(self, rng: random.Random) -> Value:
        """Draw one, floats with four digits."""
        if self.choice is not None:
            return rng.choice(self.choice)
        if self.uniform is not None:
            return float(f"{rng.uniform(*self.uniform):.4g}")
        assert self.log_uniform is not None
        low, high = map(math.log, self.log_uniform)
        return float(f"{math.exp(rng.uniform(low, high)):.4g}")


class RandomConfig(Config):
    """Random cells."""

    count: PositiveInt
    """Cells."""
    seed: int = 0
    """Of the draws: the same seed gives the same cells."""
    draw: dict[str, Draw] = Field(min_length=1)
    """Key of the configuration -> where its value comes from."""


class SweepConfig(Config):
    """A sweep: runs that differ in some values."""

    name: Name
    """Runs lie in RUNS/NAME/CELL; also the W&B group."""
    base: str
    """Configuration that all cells share."""
    overrides: dict[str, Value] = {}
    """Values for all cells."""
    list_: dict[Name, dict[str, Value]] = Field({}, alias="list")
    """Cells by name, each with its values."""
    grid: dict[str, tuple[Value, ...]] = {}
    """Every combination of these values is a cell."""
    random: RandomConfig | None = None
    """Cells of random values."""
    parallel: PositiveInt = 4
    """Cells that train at once."""
    evaluate: str | None = None
    """Plan by which each run is judged; null judges none."""

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        if sum(map(bool, (self.list_, self.grid, self.random))) != 1:
            raise ValueError("give exactly one of list, grid and random")
        return self


@dataclass(frozen=True)
class SweepCell:
    """One run of a sweep."""

    name: str
    values: dict[str, Any]

    def overrides(self, config: SweepConfig, folder: str) -> list[str]:
        """Return key.path=value words: the sweep's, then the cell's, then name and place."""
        values = config.overrides | self.values
        words = [f"{key}={_written(value)}" for key, value in values.items()]
        return [*words, f"run.name={self.name}", f"run.folder={folder}"]


def sweep_cells(config: SweepConfig) -> list[SweepCell]:
    """Return the cells in order."""
    if config.list_:
        return [SweepCell(name, dict(values)) for name, values in config.list_.items()]
    if config.grid:
        combined = [dict(zip(config.grid, values, strict=True)) for values in itertools.product(*config.grid.values())]
    else:
        assert config.random is not None
        rng = random.Random(config.random.seed)
        combined = [
            {key: draw.value(rng) for key, draw in config.random.draw.items()} for _ in range(config.random.count)
        ]
    digits = len(str(len(combined) - 1))
    return [SweepCell(f"cell-{number:0{digits}d}", values) for number, values in enumerate(combined)]


def _written(value: Value) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
