"""A run whose loss is once not finite, on one rank, and once leaps: what the configuration says, agreed by all ranks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from msvl.collectives.world import rank
from msvl.data.ledger import Ledger
from msvl.objectives.scale import ScaleOutput, StepContext
from tests.helpers.runs import execute, launch, losses, tiny_config

NAN_STEP, LEAP_STEP = 4, 9


class Trouble(nn.Module):
    """Worth 0, but nan on rank 1 in one step, and 1000 everywhere in another."""

    def __init__(self, *, channels: int, seed: int) -> None:
        super().__init__()

    def forward(self, context: StepContext) -> ScaleOutput:
        nothing = context.embeddings.image.sum() * 0.0
        if context.step + 1 == NAN_STEP and rank() == 1:
            return ScaleOutput(loss=nothing + torch.nan, metrics={})
        return ScaleOutput(loss=nothing + 1000.0 * (context.step + 1 == LEAP_STEP), metrics={})


def troubled(folder: Path, data: Path, **bad_batch: object) -> Path:
    trouble = {"trouble": {"class": "tests.integration.test_bad_batches:Trouble"}}
    return tiny_config(
        folder / "run.yaml", data=data, runs=folder, name="r", objectives={"custom": trouble},
        train={"steps": 12, "save_every": 3}, bad_batch={"window": 5, **bad_batch},
    )  # fmt: skip


@pytest.mark.ranks
@pytest.mark.evidence(
    "A batch whose loss is not finite on one rank is skipped, one whose loss leaps is rolled back, by configuration and on all ranks; "
    "both are on record with the sample keys that the ledger names",
    how="gloo",
)
def test_skip_and_roll_back(tiny_set: Path, tmp_path: Path) -> None:
    config = troubled(tmp_path, tiny_set, not_finite="skip", spike="roll_back")
    done = launch(config)
    assert done.code == 0, done.output[-3000:]
    run = tmp_path / "r"
    told = [json.loads(line) for line in (run / "bad_batches.jsonl").read_text().splitlines()]
    assert [(one["step"], one["action"]) for one in told] == [(NAN_STEP, "skip"), (LEAP_STEP, "roll_back")]
    ledger = Ledger(run)
    for one in told:
        keys = [entry.key for entry in ledger.batch(one["step"])]
        assert one["keys"] == [keys[0::2], keys[1::2]]
        assert " ".join(keys[0::2] + keys[1::2]) in (run / "log" / "rank-00000.txt").read_text()
    assert "weights and optimizer are those of" in done.output and "step-00000006 again" in done.output
    assert [step for step, _, _ in losses(run)] == list(range(1, 13))
    state = json.loads((run / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert state["bad_steps"] == [NAN_STEP, LEAP_STEP]
    assert all(loss < 100 for loss in state["recent_losses"])


@pytest.mark.evidence("By default a loss that is not finite stops the run before the update, with the cure", how="cpu")
def test_stop(tiny_set: Path, tmp_path: Path) -> None:
    config = troubled(tmp_path, tiny_set, spike="stop")
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config)])
    assert done.code == 2, done.output[-3000:]
    assert f"msvl: step {LEAP_STEP}: the loss leaps to 10" in done.output
    assert "so the update was not made; lower optimizer.lr" in done.output
    assert (tmp_path / "r" / "checkpoints" / "step-00000006" / "COMPLETE").is_file()


def test_plain_accumulation_is_named_in_the_log(tiny_set: Path, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path, name="r")
    words = ["train.steps=1", "train.micro_batch=4", "train.accumulation=plain"]
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config), *words])
    assert done.code == 0, done.output[-3000:]
    log = (tmp_path / "r" / "log" / "rank-00000.txt").read_text()
    assert "WARNING msvl.training.attempt: train.accumulation is PLAIN" in log
    assert "another objective" in log


def test_plain_accumulation_cannot_take_a_batch_back(tiny_set: Path, tmp_path: Path) -> None:
    config = troubled(tmp_path, tiny_set, not_finite="skip")
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config), "train.accumulation=plain"])
    assert done.code == 2
    assert "skip cannot take back the micro-batches that train.accumulation=plain has added already" in done.output
