"""A resume that would read another sequence is refused, with the name of what changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msvl.config.errors import CheckpointError
from msvl.training.state import TrainState

DATA: dict[str, Any] = {
    "lanes": 64, "shuffle_window": 4096, "images": "one_per_study", "train_split": "train",
    "mix": [{"manifest": "aa", "weight": 1.0}, {"manifest": "bb", "weight": 2.0}], "epoch_samples": 900,
}  # fmt: skip
STATE = TrainState(
    step=3, seed=0, world=2, zero_stage=2, global_batch=8, data_fingerprint="ff",
    data=DATA | {"epoch": 0.1, "fills": {"places": 1, "lost_samples": 1}},
)  # fmt: skip


def check(*, seed: int = 0, global_batch: int = 8, fingerprint: str = "ff", **changes: Any) -> None:
    STATE.check_same_run(
        seed=seed, global_batch=global_batch, data_fingerprint=fingerprint, data=DATA | changes, folder=Path("c")
    )


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    check()
    check(epoch_samples=50)  # the name of a stretch, no order
    STATE.write(tmp_path / "state.json")
    assert TrainState.read(tmp_path / "state.json") == STATE
    assert replace(STATE, step=4) == STATE.advanced()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"train\.seed was 0 when this run began and is 1 now"),
        ({"global_batch": 16}, r"train\.global_batch was 8 .* is 16 now"),
        ({"lanes": 32}, r"data\.lanes was 64 when this run began and is 32 now, which is another order"),
        ({"shuffle_window": 1}, r"data\.shuffle_window was 4096"),
        ({"images": "all"}, r"data\.images was one_per_study .* is all now"),
        ({"fingerprint": "gg"}, "another manifest than when this run began .*forgotten.* another run.name"),
        ({"mix": [{"manifest": "aa", "weight": 1.0}, {"manifest": "cc", "weight": 2.0}]}, "another manifest"),
        ({"mix": [{"manifest": "aa", "weight": 1.0}, {"manifest": "bb", "weight": 3.0}]}, r"data\.mix was"),
    ],
)
def test_another_sequence_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check(**changes)
