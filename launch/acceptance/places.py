"""Where the ranks of an acceptance run: this machine, or the nodes of a Slurm job. Every wait has a limit, nothing outlives it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from launch import node, scontrol
from launch.attempt import TrainingJob, leave_without_a_result
from launch.command_job import last_words
from launch.preflight import read_reports
from launch.rendezvous import Rendezvous, choose_address, choose_port
from launch.signals import Signals
from launch.snapshot import code_hash
from msvl.environment import RANK_VARIABLES, die_with_parent

GRACE_SECONDS = 20.0
"""From SIGTERM to SIGKILL."""
ERROR_LINE = ("Error: ", "Exception: ", "Error(", "Killed")
"""What the line of a traceback has that says what happened."""


class QueueNeeded(Exception):
    """The job has to go back to the queue and start again before a check goes on."""


class Interrupted(QueueNeeded):
    """Slurm warned the job: its time limit is near, or it is preempted. The check that was running is made again."""


@dataclass(frozen=True)
class Ended:
    """How a process or its ranks ended."""

    code: int | None
    """Exit code; None when the time limit came first."""
    log: Path
    seconds: float

    @property
    def good(self) -> bool:
        """Whether all is well."""
        return self.code == 0

    def why(self) -> str:
        """Return what the output says of a bad end."""
        if self.code is None:
            return f"not done within {self.seconds:.0f} s; the last that it said: {last_words(self.log)}"
        return f"exit code {self.code}: {what_happened(self.log)}"


class Place(Protocol):
    """Where things run. Each method raises Interrupted where Slurm wants the job to end."""

    @property
    def nodes(self) -> int:
        """How many machines."""

    @property
    def ranks_per_node(self) -> int:
        """Processes on each."""

    @property
    def requeues(self) -> bool:
        """Whether there is a queue that a job can go back to."""

    def process(self, words: Sequence[str], log: Path, *, seconds: float) -> Ended:
        """Run Python once, with these arguments."""

    def ranks(self, words: Sequence[str], log: Path, *, config: Path, seconds: float) -> Ended:
        """Run Python with these arguments as every rank, started as those of a training."""

    def host_names(self) -> list[str]:
        """Return the names of the machines, which no page may tell."""

    def check_nodes(self, folder: Path, config: Path) -> list[str]:
        """Run the pre-flight; return the nodes that left no report. Raises ClusterError naming a node with a fault."""


@dataclass
class ThisMachine:
    """Ranks by `accelerate launch`, as `msvl train` starts them."""

    ranks_per_node: int
    gpus: int
    code: Path
    """The checkout."""
    min_free_gb: float = 5.0
    nodes: int = 1
    requeues: bool = False
    _starts: int = field(default=0, init=False)

    def process(self, words: Sequence[str], log: Path, *, seconds: float) -> Ended:
        """Run Python once."""
        return self._run([sys.executable, *words], log, seconds)

    def ranks(self, words: Sequence[str], log: Path, *, config: Path, seconds: float) -> Ended:
        """Run the ranks."""
        arguments = argparse.Namespace(
            nodes=1, ranks_per_node=self.ranks_per_node, start="accelerate", address="127.0.0.1", port=self._port(),
            config=str(config), words=list(words),
        )  # fmt: skip
        return self._run(node.command(arguments, 0, sys.executable), log, seconds)

    def host_names(self) -> list[str]:
        """Return no further name: this machine's own is known."""
        return []

    def check_nodes(self, folder: Path, config: Path) -> list[str]:
        """Check this machine as a node of a job is checked."""
        folder.mkdir(parents=True, exist_ok=True)
        name = "this-machine"
        words = ["-m", "launch.preflight", "--folder", str(folder), "--config", str(config)]
        words += ["--address", "127.0.0.1", "--port", str(self._port()), "--nodes", name, "--gpus", str(self.gpus)]
        words += ["--min-free-gb", str(self.min_free_gb), "--ranks-per-node", str(self.ranks_per_node)]
        words += ["--code-hash", code_hash(self.code)]
        self._run([sys.executable, *words], folder / "log.txt", 120, SLURMD_NODENAME=name)
        return read_reports(folder, [name])

    def _port(self) -> int:
        """Return a port that no start before this one had, and that Linux gives to nobody meanwhile."""
        self._starts += 1
        return choose_port(os.getpid(), self._starts)

    def _run(self, line: Sequence[str], log: Path, seconds: float, **more: str) -> Ended:
        hidden = {*RANK_VARIABLES, "LOCAL_WORLD_SIZE"}
        variables = {name: value for name, value in os.environ.items() if name not in hidden}
        paths = [str(self.code), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables |= {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"} | more
        with open(log, "wb") as stream:
            process = subprocess.Popen(
                list(line), env=variables, cwd=self.code, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - single-threaded here
            )  # fmt: skip
            return wait_within(process, log, seconds, lambda number: signal_group(process.pid, number))


@dataclass
class JobNodes:
    """The nodes of the Slurm job that this batch process belongs to."""

    training: TrainingJob
    """Knows how ranks are started here."""
    job: str
    restart: int
    names: list[str]
    signals: Signals
    requeues: bool = True
    _starts: int = field(default=0, init=False)

    @property
    def nodes(self) -> int:
        """Nodes of the job."""
        return len(self.names)

    @property
    def ranks_per_node(self) -> int:
        """Processes on each."""
        return self.training.cluster.ranks

    def process(self, words: Sequence[str], log: Path, *, seconds: float) -> Ended:
        """Run Python once, on one node."""
        return self._srun(["-P", *words], log, seconds, nodes=1, tasks=1)

    def ranks(self, words: Sequence[str], log: Path, *, config: Path, seconds: float) -> Ended:
        """Run the ranks on all nodes."""
        own = self.training.node_words(self._meeting(), self.nodes)
        own += ["--exit-file", str(log.with_suffix(".exit-code")), "--config", str(config), "--", *words]
        tasks = 1 if self.training.cluster.start == "accelerate" else self.ranks_per_node
        return self._srun(own, log, seconds, nodes=self.nodes, tasks=tasks)

    def host_names(self) -> list[str]:
        """Return the names of the job's nodes."""
        return self.names

    def check_nodes(self, folder: Path, config: Path) -> list[str]:
        """Run the pre-flight of a training job."""
        silent = self.training.check_nodes(folder, config, self.names, self._meeting(), self.signals)
        self._obey()
        return silent

    def _meeting(self) -> Rendezvous:
        """Return where the ranks of the next start meet: never at a port that an earlier one may still hold."""
        self._starts += 1
        address = choose_address(self.names, scontrol.node_addresses(self.names))
        return Rendezvous(address, choose_port(int(self.job), 100 * self.restart + self._starts))

    def _srun(self, words: Sequence[str], log: Path, seconds: float, *, nodes: int, tasks: int) -> Ended:
        with open(log, "wb") as stream:
            step = self.training.srun(words, nodes, tasks, output=stream)
            ended = wait_within(step, log, seconds, lambda number: self._stop(step, number), self.signals)
        self._obey()
        return ended

    def _obey(self) -> None:
        """Raise Interrupted after a warning; end here when Slurm itself ends the job."""
        if self.signals.ended:
            leave_without_a_result()
        if self.signals.warned:
            raise Interrupted

    def _stop(self, step: subprocess.Popen[bytes], number: int) -> None:
        if step.poll() is None:
            step.send_signal(number)
        if number == signal.SIGKILL:
            scontrol.end_steps(self.job)  # a killed srun leaves its tasks alone


def wait_within(
    process: subprocess.Popen[bytes],
    log: Path,
    seconds: float,
    stop: Callable[[int], None],
    signals: Signals | None = None,
) -> Ended:
    """Wait for a process at most so long, then stop it and everything that it started.

    Args:
        process: Running.
        log: What it says.
        seconds: Limit.
        stop: Sends a signal to it and to all that it started.
        signals: What the batch process is told; a warning or an end stops the process too.
    """
    began = time.monotonic()
    code, over = None, False
    try:
        while (code := process.poll()) is None and not over:
            time.sleep(0.05)
            told = signals is not None and (signals.warned or signals.ended)
            over = told or time.monotonic() - began > seconds
        took = time.monotonic() - began
        if over and code is None:
            stop(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        return Ended(code, log, took)
    finally:
        if code is None or signals is None:
            stop(signal.SIGKILL)
        process.wait()


def signal_group(process: int, number: int) -> None:
    """Send a signal to every process of a session that may be over."""
    try:
        os.killpg(process, number)
    except ProcessLookupError:
        return


def what_happened(log: Path) -> str:
    """Return the line by which the output of ranks says what went wrong; a launcher's own last lines do not."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("msvl: ")]
    errors = [line for line in lines if any(mark in line for mark in ERROR_LINE) and "ChildFailedError" not in line]
    return (ours[-1:] or errors[-1:] or [last_words(log)])[0][:500]
