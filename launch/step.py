"""How a job's nodes are put to work: one srun, inside the container that cluster.env names, with the hub offline."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from launch.cluster import Cluster

LAST_SECONDS = 60
"""The other tasks get this long after the first one ended: launchers end with an error after a signal even when all is well, and
rank 0 may still be publishing the checkpoint."""


def start_step(cluster: Cluster, line: Sequence[str], *, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a line of `step_command`; `output` is the job's own by default."""
    variables = dict(os.environ)
    if cluster.hub_cache:
        variables["HF_HUB_CACHE"] = cluster.hub_cache
    variables["HF_HUB_OFFLINE"] = "1"  # compute nodes have no internet, and a job that waits for it hangs
    return subprocess.Popen(line, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def step_command(
    cluster: Cluster,
    words: Sequence[str],
    *,
    nodes: int,
    tasks_per_node: int,
    cpus_per_node: int,
    folders: Sequence[Path],
) -> list[str]:
    """Return the srun line.

    Args:
        cluster: From cluster.env.
        words: Arguments of Python.
        nodes: Nodes of the step.
        tasks_per_node: Tasks on each.
        cpus_per_node: Cores of each; srun does not take over what sbatch was given.
        folders: What a container has to see beside its own files; the hub cache of cluster.env is always among them.
    """
    options = [f"--nodes={nodes}", f"--ntasks={nodes * tasks_per_node}", f"--ntasks-per-node={tasks_per_node}"]
    options += [
        f"--cpus-per-task={max(1, cpus_per_node // tasks_per_node)}",
        "--kill-on-bad-exit=0",
        f"--wait={LAST_SECONDS}",
    ]
    options += ["--export=ALL", "--unbuffered"]
    seen = [*(str(folder) for folder in folders), cluster.hub_cache or "", *cluster.mounts.split(",")]
    mounts = [*dict.fromkeys(filter(None, seen))]
    inside = [cluster.python, *words]
    if cluster.container == "pyxis":
        shared = ",".join(path if ":" in path else f"{path}:{path}" for path in mounts)
        options += [f"--container-image={cluster.image}", f"--container-mounts={shared}", "--no-container-mount-home"]
        options += [f"--container-workdir={os.getcwd()}"]
    elif cluster.container == "apptainer":
        binds = [word for path in mounts for word in ("--bind", path)]
        inside = ["apptainer", "exec", "--nv", *binds, "--pwd", os.getcwd(), str(cluster.image), *inside]
    return ["srun", *options, *inside]
