"""The configurations that an acceptance trains: the shipped one on simulated radiographs, and the same made small."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.load import check_config
from msvl.config.save import save_config
from msvl.training.config import PretrainConfig
from msvl.training.gradcheck.sizes import pairs_for, shrink
from msvl.training.hub import missing_names

NEVER = 10**9
TIMEOUT_MINUTES = 3.0
"""A collective that waits longer ends a check: less than any check's limit."""
GLOBAL_SCALE_ALONE: dict[str, Any] = {
    "objectives": {"local": {"weight": 0}, "instance": {"weight": 0}, "modality": {"weight": 0}},
    "data": {"target_scale": 1},
}


@dataclass(frozen=True)
class Form:
    """How much an acceptance measures."""

    name: str
    stages: tuple[int, ...]
    """ZeRO stages that are compared with one process."""
    megabytes: float
    """Of the tensor that is sent between ranks."""
    patients: int
    """Simulated for training."""
    drill_steps: int
    """Of the run that is killed."""
    log_every: int
    """Steps of an interval that is measured."""
    intervals: int
    """Measured intervals; one more comes before them."""
    shrunk: bool
    """Whether the shipped configuration is measured with a small model, which says that it runs and not how fast."""

    @property
    def measured_steps(self) -> int:
        """Steps of a measured run, those before measuring included."""
        return self.log_every * (1 + self.intervals)


FULL = Form("full", (0, 1, 2, 3), 64.0, 512, drill_steps=24, log_every=5, intervals=5, shrunk=False)
SHORT = Form("short", (2, 3), 4.0, 48, drill_steps=9, log_every=2, intervals=2, shrunk=True)
FORMS = {form.name: form for form in (FULL, SHORT)}


@dataclass(frozen=True)
class Configs:
    """Where the configurations of an acceptance lie, and what was changed in the shipped one."""

    folder: Path

    @property
    def small(self) -> Path:
        """For comparing gradients."""
        return self.folder / "small.yaml"

    def run(self, name: str) -> Path:
        """Of a run: whole, killed, shipped or global."""
        return self.folder / f"{name}.yaml"


def write_configs(base: PretrainConfig, form: Form, folder: Path, *, world: int, cache: Path) -> tuple[Configs, str]:
    """Write the configurations; return them, and in words what of the shipped one could not be had here.

    Args:
        base: The shipped configuration.
        form: How much is measured.
        folder: Of the acceptance.
        world: Ranks.
        cache: Of published weights.
    """
    configs = Configs(folder / "configs")
    configs.folder.mkdir(parents=True, exist_ok=True)
    tree = base.model_dump(mode="json", by_alias=True)
    tree["data"] |= {"mix": {}, "cache": None}
    small = shrink(shrink(shrink(tree), _common("small", folder)), _drill(base, form, world))
    _write(small, configs.small)
    for name in ("whole", "killed"):
        _write(shrink(small, {"run": {"name": name}}), configs.run(name))
    missing = missing_names(base, cache)
    model: dict[str, Any] = (
        {"image": {"weights": None}, "text": {"weights": None, "tokenizer": None}} if missing else {}
    )
    shipped = shrink(tree) if form.shrunk else tree
    shipped = shrink(shrink(shrink(shipped, _common("shipped", folder)), {"model": model}), _measured(form))
    _write(shipped, configs.run("shipped"))
    _write(shrink(shrink(shipped, GLOBAL_SCALE_ALONE), {"run": {"name": "global"}}), configs.run("global"))
    notes = ["random weights and a small vocabulary instead of the published ones"] if missing else []
    notes += ["a small model in the place of the configured one"] if form.shrunk else []
    return configs, " and ".join(notes)


def image_side(base: PretrainConfig) -> int:
    """Return the pixels that the simulated radiographs must have."""
    return base.data.image_size * base.data.target_scale


def _common(name: str, folder: Path) -> dict[str, Any]:
    return {
        "run": {"name": name, "folder": str(folder / "runs")},
        "data": {"path": str(folder / "phantom"), "train_split": "train", "validation_split": "val"},
        "wandb": {"enabled": False},
    }  # fmt: skip


def _drill(base: PretrainConfig, form: Form, world: int) -> dict[str, Any]:
    third = form.drill_steps // 3
    return {
        "data": {"image_size": 64, "lanes": world, "workers": min(1, base.data.workers)},
        "train": {
            "steps": form.drill_steps, "global_batch": pairs_for(world), "micro_batch": "auto", "save_every": third,
            "log_every": 1, "keep": 3, "check_collectives": True, "timeout_minutes": TIMEOUT_MINUTES,
        },
        "optimizer": {"warmup_steps": 2},
        "validation": _validation(),
    }  # fmt: skip


def _measured(form: Form) -> dict[str, Any]:
    return {
        "train": {
            "steps": form.measured_steps, "log_every": form.log_every, "save_every": NEVER, "check_collectives": False,
            "timeout_minutes": TIMEOUT_MINUTES,
        },
        "optimizer": {"warmup_steps": 1},
        "validation": _validation(),
    }  # fmt: skip


def _validation() -> dict[str, Any]:
    return {"every": NEVER, "samples": 16, "best_metric": "retrieval.report_r5"}


def _write(tree: dict[str, Any], path: Path) -> None:
    save_config(check_config(tree, PretrainConfig, where=path.stem), path)
