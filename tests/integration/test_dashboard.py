"""What the W&B workspace plots is what a run logs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launch.dashboard import SECTIONS
from tests.helpers.runs import execute, tiny_config


@pytest.mark.evidence("Every panel of the W&B workspace plots a metric that a run has logged", how="cpu")
def test_every_panel_plots_a_metric_that_a_run_has_logged(tiny_set: Path, tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path / "c.yaml", data=tiny_set, runs=tmp_path, name="logged", train={"steps": 2}, validation={"every": 2},
        wandb={"enabled": True},
    )  # fmt: skip
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config)], environment={"WANDB_MODE": "offline"})
    assert done.code == 0, done.output
    (mirrored,) = (tmp_path / "logged" / "wandb").rglob("run-*.wandb")
    written = mirrored.read_bytes()
    wanted = {metric for panels in SECTIONS.values() for panel in panels for metric in panel.metrics}
    assert {metric for metric in wanted if metric.encode() not in written} == set()
