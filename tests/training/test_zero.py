"""Our configuration becomes a complete DeepSpeed dictionary, or one sentence with the values that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msvl.config.errors import ClusterError
from msvl.config.load import check_config
from msvl.training.config import PretrainConfig
from msvl.training.zero import accumulation_steps, deepspeed_dictionary, micro_batch


def config(**train: Any) -> PretrainConfig:
    tree = {"run": {"name": "q"}, "data": {"path": "x"}, "train": {"steps": 1, "global_batch": 64, **train}}
    return check_config(tree, PretrainConfig, where=str(Path("test")))


def test_auto_micro_batch_is_the_rank_share() -> None:
    assert [micro_batch(config(), world) for world in (1, 2, 4)] == [64, 32, 16]


def test_remainder_names_the_nearest_ranks_and_batches() -> None:
    with pytest.raises(
        ClusterError, match=r"64 does not divide over 3 ranks: use 2 or 4 ranks, or train.global_batch=63 or 66"
    ):
        micro_batch(config(), 3)


def test_micro_batch_that_does_not_divide_names_the_nearest() -> None:
    with pytest.raises(
        ClusterError, match=r"micro_batch 15 does not divide the 32 pairs per rank.*use 8 or 16, or auto"
    ):
        micro_batch(config(micro_batch=15), 2)


def test_a_smaller_micro_batch_means_several_per_step() -> None:
    assert (micro_batch(config(micro_batch=16), 2), accumulation_steps(config(micro_batch=16), 2)) == (16, 2)
    made = deepspeed_dictionary(config(micro_batch=8), 2)
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_accumulation_steps"]) == (8, 4)
    assert made["train_batch_size"] == 64


def values(tree: Any) -> list[Any]:
    return [leaf for value in tree.values() for leaf in values(value)] if isinstance(tree, dict) else [tree]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_no_auto_is_left(stage: int) -> None:
    made = deepspeed_dictionary(_with_stage(stage), 2)
    assert "auto" not in values(made)
    assert made["zero_optimization"]["stage"] == stage


def _with_stage(stage: int) -> PretrainConfig:
    tree = {
        "run": {"name": "q"}, "data": {"path": "x"}, "train": {"steps": 1, "global_batch": 64}, "zero": {"stage": stage}
    }  # fmt: skip
    return check_config(tree, PretrainConfig, where="test")


def test_clipping_is_always_written_because_its_absence_means_one() -> None:
    assert deepspeed_dictionary(config(gradient_clipping=0.0), 2)["gradient_clipping"] == 0.0
