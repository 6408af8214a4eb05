"""What an acceptance trains: the shipped configurations on simulated radiographs, and small ones with the same objectives."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.acceptance.configs import FORMS, image_side, write_configs
from msvl.config.load import load_config
from msvl.data.lanes import check_world
from msvl.training.config import PretrainConfig
from tests.helpers.runs import ROOT

SHIPPED = sorted((ROOT / "configs" / "pretrain").glob("*.yaml"))


def read(path: Path) -> PretrainConfig:
    return load_config(str(path), [], PretrainConfig)


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
@pytest.mark.parametrize("world", [1, 2, 64])
def test_every_shipped_configuration_can_be_accepted(shipped: Path, form, world: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    base = read(shipped)
    configs, notes = write_configs(base, form, tmp_path, world=world, cache=tmp_path)
    small, killed, measured = (read(path) for path in (configs.small, configs.run("killed"), configs.run("shipped")))
    assert small.objectives == killed.objectives == measured.objectives == base.objectives
    check_world(world, global_batch=killed.train.global_batch, lanes=killed.data.lanes)
    assert killed.train.global_batch >= 2 * world
    assert (killed.train.check_collectives, measured.train.check_collectives) == (True, False)
    assert measured.train.global_batch == base.train.global_batch
    assert measured.train.steps == form.log_every * (1 + form.intervals)
    assert {one.data.path for one in (small, killed, measured)} == {str(tmp_path / "phantom")}
    assert not any(one.wandb.enabled for one in (small, killed, measured))
    assert measured.data.image_size * measured.data.target_scale <= max(64, image_side(base))
    assert form.shrunk == ("a small model in the place of the configured one" in notes)
    if not form.shrunk:
        assert measured.model.channels == base.model.channels
    named = base.model.image.weights or base.model.text.weights
    assert bool(named) == ("random weights" in notes), "no published weights are in this cache"


def test_beside_open_clip_the_global_scale_is_alone(tmp_path: Path) -> None:
    configs, _ = write_configs(read(SHIPPED[0]), FORMS["full"], tmp_path, world=2, cache=tmp_path)
    alone = read(configs.run("global"))
    assert alone.objectives.global_.weight > 0
    assert alone.objectives.local.weight == alone.objectives.instance.weight == alone.objectives.modality.weight == 0
    assert alone.data.target_scale == 1
