"""Everything about a start that can be checked before torch is imported and a process group exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.data.packed import PackedSet
from msvl.environment import LaunchedRank
from msvl.training.config import PretrainConfig
from msvl.training.run_folder import RunFolder
from msvl.training.zero import micro_batch


@dataclass(frozen=True)
class Prepared:
    """A start whose configuration, run folder, world size and data were found to be right."""

    config: PretrainConfig
    packed: PackedSet
    folder: RunFolder
    rank: LaunchedRank
    resume: bool
    tokenizer: str
    """Folder or hub name."""


def prepare(config_path: str, overrides: Sequence[str], *, resume: bool, rank: LaunchedRank) -> Prepared:
    """Check configuration, run folder, world size, data and tokenizer. Raises the MsvlError that names what is wrong."""
    config = load_config(config_path, overrides, PretrainConfig)
    folder = RunFolder(Path(config.run.folder) / config.run.name)
    folder.check_start(resume=resume)
    micro_batch(config, rank.world_size)
    packed = PackedSet.open(config.data.path)
    for split in (config.data.train_split, config.data.validation_split):
        packed.check_split(split)
    tokenizer = config.model.text.tokenizer or config.model.text.weights or packed.tokenizer_path
    if tokenizer is None:
        raise ConfigError(
            f"{config_path}: model.text.tokenizer is not set and {packed.path} has no tokenizer: name a folder, or pack "
            "with --train-tokenizer 2000"
        )
    return Prepared(config=config, packed=packed, folder=folder, rank=rank, resume=resume, tokenizer=str(tokenizer))
