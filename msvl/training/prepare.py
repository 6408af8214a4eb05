"""Everything about a start that can be checked before torch is imported and a process group exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msvl.config.errors import ConfigError
from msvl.config.imports import check_importable
from msvl.config.load import load_config
from msvl.data.lanes import check_world
from msvl.data.packed import PackedSet
from msvl.data.training_data import TrainingData
from msvl.environment import LaunchedRank
from msvl.training.config import PretrainConfig
from msvl.training.finished import complete_checkpoints, verify
from msvl.training.hub import check_named
from msvl.training.run_folder import RunFolder
from msvl.training.state import TrainState
from msvl.training.zero import micro_batch


@dataclass(frozen=True)
class Prepared:
    """A start whose configuration, run folder, world size and data were found to be right."""

    config: PretrainConfig
    packed: PackedSet
    """The set of `data.path`."""
    data: TrainingData
    folder: RunFolder
    rank: LaunchedRank
    tokenizer: str
    """Folder or hub name."""
    resume: bool
    """Whether to go on from the newest checkpoint, if there is one."""
    checkpoint: Path | None
    """Where a resume goes on from: whole, and of this very run."""

    def newest_checkpoint(self) -> Path | None:
        """Return the newest finished checkpoint, or None. Raises when it is damaged or belongs to another start."""
        finished = complete_checkpoints(self.folder.checkpoints)
        if not finished:
            return None
        newest, config = finished[-1], self.config
        verify(newest)
        state = TrainState.read(newest / "state.json")
        state.check_fits(config.zero.stage, newest)
        state.check_same_run(
            seed=config.train.seed,
            global_batch=config.train.global_batch,
            data_fingerprint=self.packed.fingerprint,
            data=self.data.state,
            folder=newest,
        )
        return newest


def prepare(
    config_path: str, overrides: Sequence[str], *, resume: bool, rank: LaunchedRank, ask_hub: bool = True
) -> Prepared:
    """Check configuration, run folder, world size, data, tokenizer, and that named weights and classes are to be had.

    Raises the MsvlError that names what is wrong. `ask_hub` as in `check_named`.
    """
    config = load_config(config_path, overrides, PretrainConfig)
    folder = RunFolder(Path(config.run.folder) / config.run.name)
    folder.check_start(resume=resume)
    check_ranks(config, rank.world_size)
    packed = PackedSet.from_config(config.data)
    for split in (config.data.train_split, config.data.validation_split):
        packed.check_split(split)
    data = TrainingData.open(config.data, config.train.seed, packed)
    tokenizer = config.model.text.tokenizer or config.model.text.weights or packed.tokenizer_path
    if tokenizer is None:
        raise ConfigError(
            f"{config_path}: model.text.tokenizer is not set and {packed.location} has no tokenizer: name a folder, or pack "
            "with --train-tokenizer 2000"
        )
    for source in data.sets:
        _check_fine_pixels(config, source)
    for name, custom in config.objectives.custom.items():
        check_importable(custom.class_, where=f"objectives.custom.{name}.class")
    check_named(config, ask_hub=ask_hub)
    prepared = Prepared(
        config=config,
        packed=packed,
        data=data,
        folder=folder,
        rank=rank,
        tokenizer=str(tokenizer),
        resume=resume,
        checkpoint=None,
    )
    return replace(prepared, checkpoint=prepared.newest_checkpoint()) if resume else prepared


def check_ranks(config: PretrainConfig, world: int) -> None:
    """Raise ConfigError or ClusterError when batch, micro-batch or lanes do not fit so many ranks."""
    micro_batch(config, world)
    check_world(world, global_batch=config.train.global_batch, lanes=config.data.lanes)


def _check_fine_pixels(config: PretrainConfig, packed: PackedSet) -> None:
    """Refuse to predict pixels that packing has thrown away."""
    fine, kept = config.data.image_size * config.data.target_scale, packed.manifest["options"].get("short_side")
    if config.data.target_scale > 1 and kept is not None and kept < fine:
        raise ConfigError(
            f"data.target_scale={config.data.target_scale} asks for images of {fine} px but {packed.location} was packed with "
            f"--short-side {kept}: pack with --short-side {fine}, or set data.target_scale=1"
        )
