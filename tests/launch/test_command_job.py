"""One `msvl` command as a job: what its step is given, and what a warning and an end by Slurm do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.helpers.runs import ROOT, until

SRUN = """#!{python}
import json, os, sys, time
print(json.dumps({{"pid": os.getpid(), "words": sys.argv[1:], "offline": os.environ["HF_HUB_OFFLINE"], "cache": os.environ.get("HF_HUB_CACHE")}}))
sys.stdout.flush()
time.sleep({seconds})
"""
JOB = """
import sys
from launch.cluster import Cluster
from launch.command_job import CommandJob
values = {"partition": "p", "ranks_per_node": 1, "container": "apptainer", "image": "a.sif", "launch_python": "p", "hub_cache": "/hub"}
print(CommandJob(("evaluate", "RUN"), "log.txt", "code", Cluster.model_validate(values), failed="failed.txt")())
"""


def start(folder: Path, *, seconds: float) -> subprocess.Popen[str]:
    srun = folder / "srun"
    srun.write_text(SRUN.format(python=sys.executable, seconds=seconds))
    srun.chmod(0o755)
    variables = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", JOB], cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def told(folder: Path) -> dict:
    log = folder / "log.txt"
    until(lambda: log.is_file() and log.read_text().endswith("\n"))
    return json.loads(log.read_text())


def test_the_step_is_offline_and_its_container_sees_the_cache(tmp_path: Path) -> None:
    job = start(tmp_path, seconds=0)
    out, err = job.communicate(timeout=60)
    assert out.strip() == "done", err
    found = told(tmp_path)
    assert (found["offline"], found["cache"]) == ("1", "/hub")
    words = found["words"]
    assert "/hub" in [value for name, value in zip(words, words[1:], strict=False) if name == "--bind"]
    assert words[-5:] == ["-P", "-m", "msvl.cli", "evaluate", "RUN"]


def test_a_warning_does_not_end_a_command(tmp_path: Path) -> None:
    """Slurm warns five minutes ahead, or at once where the limit is shorter than that."""
    job = start(tmp_path, seconds=2)
    told(tmp_path)
    job.send_signal(signal.SIGUSR2)
    out, err = job.communicate(timeout=60)
    assert (job.returncode, out.strip()) == (0, "done"), err


def test_an_end_by_slurm_is_the_reason_of_the_failure(tmp_path: Path) -> None:
    job = start(tmp_path, seconds=60)
    step = told(tmp_path)["pid"]
    job.send_signal(signal.SIGTERM)
    os.kill(step, signal.SIGTERM)  # Slurm ends the step too
    _, err = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM
    assert (tmp_path / "failed.txt").read_text() == "Slurm ended the job (cancelled, preempted or at its limit)\n"
    assert "Traceback" not in err
