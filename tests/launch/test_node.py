"""What a task becomes."""

from __future__ import annotations

import pytest

from launch.node import build_parser, command, variables
from msvl.config.errors import ClusterError

WORDS = [
    "--address",
    "n1",
    "--port",
    "12345",
    "--ranks-per-node",
    "4",
    "--grace-seconds",
    "300",
    "--exit-file",
    "x",
    "--config",
    "c",
]
STEP = {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}


def test_one_task_per_node_becomes_accelerate_with_its_rank() -> None:
    arguments = build_parser().parse_args([*WORDS, "--nodes", "2", "--start", "accelerate"])
    line = " ".join(command(arguments, 1, "python"))
    assert "--num_machines 2 --num_processes 8" in line
    assert "--machine_rank 1" in line
    assert "--main_process_ip n1" in line
    assert "--deepspeed_multinode_launcher standard" in line
    assert variables(arguments, {"SLURM_NTASKS": "2"})["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "300"


def test_one_task_per_rank_becomes_a_rank() -> None:
    arguments = build_parser().parse_args([*WORDS, "--nodes", "2", "--start", "srun"])
    found = variables(arguments, STEP)
    assert {name: found[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")} == {
        "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "n1", "MASTER_PORT": "12345",
    }  # fmt: skip
    assert command(arguments, 1, "python")[-3:] == ["--config", "c", "--resume"]


@pytest.mark.parametrize("start", ["accelerate", "srun"])
def test_other_words_take_the_place_of_a_training_and_run_from_the_snapshot(start: str) -> None:
    arguments = build_parser().parse_args(
        [*WORDS, "--nodes", "2", "--start", start, "--", "-m", "some.module", "--flag", "1"]
    )
    line = command(arguments, 1, "python")
    assert line[-4:] == ["-m", "some.module", "--flag", "1"]
    assert not any("train.py" in word for word in line)
    given = STEP | {"SLURM_NTASKS": "2" if start == "accelerate" else "8"}
    assert variables(arguments, given)["PYTHONSAFEPATH"] == "1"
    plain = build_parser().parse_args([*WORDS, "--nodes", "2", "--start", start])
    assert "PYTHONSAFEPATH" not in variables(plain, given)


def test_a_step_of_another_size_is_refused() -> None:
    arguments = build_parser().parse_args([*WORDS, "--nodes", "2", "--start", "accelerate"])
    with pytest.raises(ClusterError, match="the step has 1 tasks instead of 2"):
        variables(arguments, {"SLURM_NTASKS": "1"})
