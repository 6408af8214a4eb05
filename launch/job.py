"""From a callable to a job: submitit pickles it and writes the sbatch script, scontrol says how the job fares.

The callable runs in the job's batch process and starts what the nodes do by srun, so that signals, exit codes and requeues
are decided in one place (attempt.py).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.slurm.slurm import SlurmInfoWatcher

from launch import scontrol
from launch.cluster import Cluster
from msvl.config.errors import ClusterError


@dataclass(frozen=True)
class Resources:
    """What a job asks for, beside what cluster.env says of every job."""

    name: str
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int = 1
    memory_per_node: str | None = None
    time: str = "60"
    dependency: str | None = None
    """As sbatch takes it: afterok:17."""
    parallel: int = 256
    """Members of an array that run at once."""


class ScontrolWatcher(SlurmInfoWatcher):
    """Asks scontrol for the state of jobs, where submitit asks sacct: that needs a database which many clusters lack.

    A job that the controller has forgotten is over, so nobody waits for it without end.
    """

    def update(self) -> None:
        """Look all registered jobs up that are not over."""
        self._num_calls += 1
        asked = sorted(self._registered - self._finished)
        self._info_dict.update({job: {"State": state} for job, state in scontrol.states(asked).items()})
        self._finished |= {job for job in asked if self.is_done(job, mode="cache")}

    def update_if_long_enough(self, mode: str) -> None:
        """Look up every five seconds at most."""
        super().update_if_long_enough("cache" if mode == "cache" else mode)

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Return whether the job is over."""
        return not scontrol.is_alive(self.get_state(job_id, mode=mode)) and job_id in self._info_dict


class ClusterJob(submitit.SlurmJob[Any]):
    """A job whose state is asked of scontrol."""

    watcher = ScontrolWatcher(delay_s=5)


class Executor(submitit.SlurmExecutor):
    """submitit's, with our watcher, and with the script at hand before it is submitted."""

    job_class = ClusterJob

    @classmethod
    def affinity(cls) -> int:
        """Say that it can be made here: scripts are shown where there is no Slurm, too."""
        return 1

    def script(self, count: int = 1) -> str:
        """Return the exact sbatch script of a job, or of an array of `count`."""
        parameters = dict(self.parameters)
        if count > 1:
            self.parameters["map_count"] = count
        try:
            return self._make_submission_file_text(self._submitit_command_str, "") + "\n"
        finally:
            self.parameters = parameters


def build_executor(folder: Path, code: Path, cluster: Cluster, resources: Resources) -> Executor:
    """Return what submits a job.

    Args:
        folder: Where scripts, pickles and output of the job go; on a disk that all nodes share.
        code: Snapshot that the job runs from.
        cluster: From cluster.env.
        resources: What this job asks for.
    """
    executor = Executor(folder, python=_python(cluster))
    executor.update_parameters(
        job_name=resources.name,
        partition=cluster.partition,
        account=cluster.account,
        qos=cluster.qos,
        time=resources.time,
        nodes=resources.nodes,
        ntasks_per_node=1,
        cpus_per_task=resources.cpus_per_node,
        wckey=None,
        array_parallelism=resources.parallel,
        dependency=resources.dependency,
        stderr_to_stdout=True,
        use_srun=False,
        setup=_setup(code, cluster),
        additional_parameters=_additional(cluster, resources),
    )
    return executor


def submit(executor: Executor, functions: Sequence[Callable[[], Any]]) -> list[ClusterJob]:
    """Submit one job, or an array of several; return them in order. Raises ClusterError with what sbatch said."""
    try:
        with outside_any_job():
            jobs = [executor.submit(functions[0])] if len(functions) == 1 else executor.submit_array(functions)
    except (subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ClusterError(f"sbatch refused the job: {' '.join(text.split())}") from error
    return [ClusterJob(folder=executor.folder, job_id=job.job_id, tasks=[0]) for job in jobs]


def ask_slurm(script: str) -> str:
    """Ask Slurm whether it would take a script; return its answer. Raises ClusterError when it would not."""
    with outside_any_job():
        done = subprocess.run(
            ["sbatch", "--test-only"], input=script, text=True, check=False, timeout=60, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    if done.returncode:
        raise ClusterError(f"Slurm would refuse the job: {' '.join(done.stdout.split())}")
    return done.stdout.strip()


@contextmanager
def outside_any_job() -> Iterator[None]:
    """Hide the variables of the job that this process belongs to: sbatch and srun would take them for wishes."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SUBMITIT_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def _python(cluster: Cluster) -> str:
    # -P: the snapshot in PYTHONPATH is imported, not the checkout that the job's working folder is.
    return f"exec {shlex.quote(cluster.launch_python or sys.executable)} -P"


def _setup(code: Path, cluster: Cluster) -> list[str]:
    lines = ["set -e", f"cd {shlex.quote(os.getcwd())}"]
    if cluster.modules:
        lines += ["source /etc/profile", f"module load {cluster.modules}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in cluster.exports.items()]
    return [*lines, f"export PYTHONPATH={shlex.quote(str(code))}"]


def _additional(cluster: Cluster, resources: Resources) -> Mapping[str, Any]:
    options: dict[str, Any] = {"signal": f"B:USR2@{cluster.signal_seconds}", "requeue": True, "export": "ALL"}
    if resources.memory_per_node:
        options["mem"] = resources.memory_per_node
    if resources.gpus_per_node and cluster.gpu_option == "gres":
        options["gres"] = f"gpu:{resources.gpus_per_node}"
    elif resources.gpus_per_node:
        options["gpus-per-node"] = resources.gpus_per_node
    if resources.dependency:
        options["kill-on-invalid-dep"] = "yes"
    for word in shlex.split(cluster.sbatch_options):
        name, _, value = word.removeprefix("--").partition("=")
        options[name] = value or True
    return options
