"""What Slurm says and is asked: thin calls of scontrol, each with a time limit. Works with and without accounting."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

from msvl.config.errors import ClusterError

PATIENCE_SECONDS = 60
ALIVE = {
    "PENDING",
    "RUNNING",
    "REQUEUED",
    "COMPLETING",
    "CONFIGURING",
    "SUSPENDED",
    "STOPPED",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
}
"""States of a job that may still give a result."""
FORGOTTEN = "FORGOTTEN"
"""Our word for a job that the controller does not know any more: it ended longer than MinJobAge ago, or never was."""


def call(*words: str) -> tuple[int, str]:
    """Run a command of Slurm's; return its exit code and all it printed. Raises ClusterError when it is missing or hangs."""
    try:
        done = subprocess.run(
            list(words), text=True, check=False, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ClusterError(
            f"there is no {words[0]} here: type this on a login node of the cluster, or add --local"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"`{' '.join(words)}` did not answer within {PATIENCE_SECONDS} s: is the controller down?"
        ) from error
    return done.returncode, done.stdout


def asked(*words: str) -> str:
    """Return what a command printed. Raises ClusterError when it failed."""
    code, text = call(*words)
    if code:
        raise ClusterError(f"`{' '.join(words)}` failed: {text.strip()}")
    return text


def node_names(nodelist: str) -> list[str]:
    """Return the names behind Slurm's short form n[1-2]."""
    return asked("scontrol", "show", "hostnames", nodelist).split()


def node_addresses(names: Sequence[str]) -> dict[str, str]:
    """Return the address by which Slurm itself reaches each node: a name or a number."""
    text = asked("scontrol", "show", "node", "-o", ",".join(names))
    return dict(re.findall(r"^NodeName=(\S+).*? NodeAddr=(\S+)", text, flags=re.MULTILINE))


def parse_jobs(text: str) -> dict[str, dict[str, str]]:
    """Read `scontrol show job -o`: job id (ARRAY_TASK for members of an array) -> its fields."""
    jobs: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobId" not in fields:
            continue
        jobs[fields["JobId"]] = fields
        if "ArrayJobId" in fields:
            for task in task_numbers(fields.get("ArrayTaskId", "")):
                jobs[f"{fields['ArrayJobId']}_{task}"] = fields
    return jobs


def task_numbers(text: str) -> list[int]:
    """Return the numbers behind 3, 0-5 or 1,4-6%2."""
    numbers: list[int] = []
    for part in text.split("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def states(jobs: Sequence[str]) -> dict[str, str]:
    """Return the state of each job; FORGOTTEN for those that the controller does not know."""
    found: dict[str, str] = {}
    for main in dict.fromkeys(job.split("_")[0] for job in jobs):
        code, text = call("scontrol", "show", "job", "-o", main)
        if code and "Invalid job id" not in text:
            raise ClusterError(f"`scontrol show job {main}` failed: {text.strip()}")
        found |= {name: fields["JobState"] for name, fields in parse_jobs(text).items()}
    return {job: found.get(job, FORGOTTEN) for job in jobs}


def restarts(job: str) -> int:
    """Return how often Slurm has put a job back into the queue."""
    return int(parse_jobs(asked("scontrol", "show", "job", "-o", job))[job]["Restarts"])


def is_alive(state: str) -> bool:
    """Return whether a job in this state may still give a result."""
    return state in ALIVE


def requeue(job: str) -> None:
    """Send a running job back to the queue. Raises ClusterError when Slurm refuses."""
    asked("scontrol", "requeue", job)


def end_steps(job: str) -> None:
    """End every step of a job that runs; the batch process goes on."""
    _, text = call("squeue", "--noheader", "--steps", "--jobs", job, "--format", "%i")
    for step in re.findall(rf"^{job}\.\d+$", text, flags=re.MULTILINE):
        call("scancel", step)


def running_job(variables: Mapping[str, str]) -> str:
    """Return the id of the job that this process belongs to. Raises ClusterError outside, and for a heterogeneous job."""
    if "SLURM_JOB_ID" not in variables:
        raise ClusterError("SLURM_JOB_ID is not set: this runs inside a job only")
    if int(variables.get("SLURM_HET_SIZE", "1")) > 1:
        raise ClusterError("this is a heterogeneous job, whose node list names one part only: submit a plain one")
    return variables["SLURM_JOB_ID"]
