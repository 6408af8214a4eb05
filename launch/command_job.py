"""One `msvl` command as a job on one node: a cell of a judgement, a part of a packing, their merging."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from launch.attempt import leave_without_a_result, say
from launch.cluster import Cluster
from launch.signals import Signals
from launch.step import start_step, step_command
from msvl.config.errors import ClusterError


@dataclass(frozen=True)
class CommandJob:
    """What submitit pickles. Called in the batch process, or here and now with `local`."""

    words: tuple[str, ...]
    """Arguments of `msvl`."""
    log: str
    """File that gets the command's output."""
    code: str
    """Snapshot of the code."""
    cluster: Cluster | None
    """None runs on this machine, without Slurm."""
    cpus: int = 1
    """Cores of the job."""
    folders: tuple[str, ...] = ()
    """What a container has to see."""
    done: str | None = None
    """File that is there once the work is done: then there is nothing to do."""
    failed: str | None = None
    """File that tells of a failure; removed when the command starts again."""

    def __call__(self) -> str:
        """Run the command. Raises ClusterError with the last thing that it said when it fails."""
        if self.done and Path(self.done).is_file():
            return f"already there: {self.done}"
        if self.failed:
            Path(self.failed).unlink(missing_ok=True)
        log = Path(self.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        say(f"msvl {' '.join(self.words)}; its output goes to {log}")
        with open(log, "wb") as stream:
            code, ended_by_slurm = self._run(stream)
        if code == 0:
            return "done"
        reason = ended_by_slurm or f"exit code {code}: {last_words(log)}"
        if self.failed:
            Path(self.failed).write_text(reason + "\n", encoding="utf-8")
        if ended_by_slurm:
            say(reason)
            leave_without_a_result()
        raise ClusterError(f"msvl {' '.join(self.words)}: {reason}")

    def _run(self, output: IO[bytes]) -> tuple[int, str | None]:
        """Return the exit code, and what Slurm did where it wanted the job to end."""
        inside = ["-P", "-m", "msvl.cli", *self.words]
        if self.cluster is None:
            variables = os.environ | {"PYTHONPATH": self.code}
            done = subprocess.run(
                [sys.executable, *inside], env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )  # fmt: skip
            return done.returncode, None
        signals = Signals()
        signals.install()
        folders = [Path.cwd(), Path(self.code), Path(self.log).parent, *map(Path, self.folders)]
        line = step_command(self.cluster, inside, nodes=1, tasks_per_node=1, cpus_per_node=self.cpus, folders=folders)
        code = start_step(
            self.cluster, line, output=output
        ).wait()  # a warning is not passed on: a command has nothing to save, and would lose its last minutes
        return code, "Slurm ended the job (cancelled, preempted or at its limit)" if signals.ended else None


def last_words(log: Path) -> str:
    """Return the last line by which a command explains itself, else its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("msvl: ")]
    return (ours or lines or ["it said nothing"])[-1][:500]
