"""An update whose gradient is not finite is left out by the engine under bf16, counted, and said in words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from msvl.monitoring.writers import read_metrics
from msvl.objectives.scale import ScaleOutput, StepContext
from tests.helpers.runs import execute, tiny_config


class Poison(nn.Module):
    """Worth 0, with a gradient of nan in even steps: the root of 0 has no finite slope."""

    def __init__(self, *, channels: int, seed: int) -> None:
        super().__init__()

    def forward(self, context: StepContext) -> ScaleOutput:
        nothing = context.embeddings.image.sum() * 0.0
        return ScaleOutput(loss=torch.sqrt(nothing) if context.step % 2 == 0 else nothing, metrics={})


@pytest.mark.ranks
@pytest.mark.parametrize("stage", [2, 3])
def test_a_gradient_of_nan_is_left_out_and_counted(stage: int, tiny_set: Path, tmp_path: Path) -> None:
    poison = {"poison": {"class": "tests.integration.test_skipped_updates:Poison"}}
    config = tiny_config(
        tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="run", zero={"stage": stage}, objectives={"custom": poison},
        train={"steps": 4, "precision": "bf16"},
    )  # fmt: skip
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config)])
    assert done.code == 0, done.output[-3000:]
    records = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss/total" in record]
    assert [record["train/skipped_steps"] for record in records] == [1, 1, 2, 2]
    assert "step 3: 1 more updates were left out because a gradient was not finite (2 in this run)" in done.output
