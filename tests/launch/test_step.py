"""The srun line, with and without a container."""

from __future__ import annotations

import os
from pathlib import Path

from launch.cluster import Cluster
from launch.step import step_command


def line(**values: object) -> list[str]:
    cluster = Cluster.model_validate({"partition": "p", "gpus_per_node": 8, "python": "python3", **values})
    return step_command(
        cluster, ["-m", "x"], nodes=2, tasks_per_node=8, cpus_per_node=64, folders=[Path("/data/a"), Path("/data/a")]
    )


def test_tasks_and_cores_are_said_again() -> None:
    words = line()
    assert words[0] == "srun"
    assert {"--nodes=2", "--ntasks=16", "--ntasks-per-node=8", "--cpus-per-task=8"} <= set(words)
    assert words[-3:] == ["python3", "-m", "x"]


def test_apptainer_runs_inside_each_task() -> None:
    words = line(container="apptainer", image="a.sif", launch_python="p", mounts="/scratch")
    inside = words[words.index("apptainer") :]
    assert inside == [
        "apptainer", "exec", "--nv", "--bind", "/data/a", "--bind", "/scratch", "--pwd", os.getcwd(), "a.sif", "python3", "-m", "x",
    ]  # fmt: skip


def test_pyxis_is_told_by_srun_options() -> None:
    words = line(container="pyxis", image="a.sqsh", launch_python="p", mounts="/scratch")
    assert "--container-image=a.sqsh" in words
    assert "--container-mounts=/data/a:/data/a,/scratch:/scratch" in words
    assert words[-3:] == ["python3", "-m", "x"]
