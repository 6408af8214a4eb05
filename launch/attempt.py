"""One start of a training job, in its batch process: meet, check, train, then decide whether the job goes on.

What decides lies on disk: the newest finished checkpoint, and the exit code that rank 0 leaves in a file. Exit codes of
processes are lost on the way (the launcher turns each into 1, srun takes the largest).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NoReturn

from launch import scontrol
from launch.cluster import Cluster
from launch.preflight import read_reports
from launch.rendezvous import Rendezvous, choose_address, choose_port
from launch.restarts import Restarts, Start, newest_step
from launch.signals import Signals
from launch.step import start_step, step_command
from msvl.config.errors import ClusterError, MsvlError
from msvl.config.exit_codes import SUPERSEDED, USERS_TO_FIX

FINAL_CODES = {str(USERS_TO_FIX), str(SUPERSEDED)}
"""Exit codes after which no restart helps."""
MAX_SECONDS_TO_DIE = 120
PREFLIGHT_SECONDS = 300.0
"""A node that has not told by then hangs, as one with a dead disk does."""


@dataclass(frozen=True)
class Outcome:
    """How a start ended, and what follows."""

    then: Literal["done", "requeue", "fail", "ended"]
    reason: str
    asked: bool = False
    """Whether somebody asked it to end."""


@dataclass(frozen=True)
class TrainingJob:
    """What submitit pickles: everything that a start of the job needs. Called in the batch process."""

    run: str
    """Run folder."""
    config: str
    """Resolved configuration."""
    code: str
    """Snapshot of the code."""
    code_hash: str
    """What its files must hash to on every node."""
    steps: int
    """Optimizer steps of the whole run."""
    cluster: Cluster

    def __call__(self) -> str:
        """Train until the run is finished; return how it ended. Raises ClusterError when it is given up."""
        signals = Signals()
        signals.install()
        job = scontrol.running_job(os.environ)
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        run = Path(self.run)
        restarts = Restarts(run / "slurm" / "starts.json")
        step = newest_step(run)
        row = restarts.fruitless(job, step)
        if len(row) > self.cluster.max_restarts:
            raise given_up(row, step)
        nodes = scontrol.node_names(os.environ["SLURM_JOB_NODELIST"])
        restarts.begin(job, restart, nodes, step)
        say(
            f"start {len(restarts.starts)} of {run}: job {job}, restart {restart}, nodes {' '.join(nodes)}, from step {step}"
        )
        try:
            outcome = self._start(job, restart, nodes, signals)
        except MsvlError as error:
            restarts.end(str(error), asked=False)
            raise
        if not signals.ended and scontrol.restarts(job) != restart:
            say(
                "this start lived on after its node's daemon had died; Slurm has put the job back already, so it ends here"
            )
            leave_without_a_result()
        restarts.end(outcome.reason, asked=outcome.asked)
        say(outcome.reason)
        if outcome.then == "done":
            return outcome.reason
        if outcome.then == "fail":
            raise ClusterError(outcome.reason)
        if outcome.then == "ended":
            leave_without_a_result()
        row = restarts.fruitless(job, newest_step(run))
        if len(row) > self.cluster.max_restarts:
            raise given_up(row, newest_step(run))
        return go_back_to_the_queue(job)

    def _start(self, job: str, restart: int, nodes: list[str], signals: Signals) -> Outcome:
        address = choose_address(nodes, scontrol.node_addresses(nodes))
        meeting = Rendezvous(address, choose_port(int(job), restart))
        say(f"ranks meet at {meeting.address}:{meeting.port}")
        exit_file = Path(self.run) / "slurm" / f"exit-code-{job}-{restart}"
        reports = Path(self.run) / "slurm" / f"preflight-{job}-{restart}"
        if self.cluster.preflight and (silent := self.check_nodes(reports, self.config, nodes, meeting, signals)):
            reason = (
                f"pre-flight: no report from {', '.join(silent)} (a node that is down, or does not see the run folder)"
            )
            return Outcome("ended" if signals.ended else "requeue", reason, asked=signals.ended)
        words = [*self.node_words(meeting, len(nodes)), "--exit-file", str(exit_file), "--config", self.config]
        ranks = 1 if self.cluster.start == "accelerate" else self.cluster.ranks
        began = time.time()
        code = signals.wait(self.srun(words, len(nodes), ranks))
        return judge(Path(self.run), self.steps, code, exit_file, signals, began=began)

    def check_nodes(
        self, folder: Path, config: str | Path, nodes: list[str], meeting: Rendezvous, signals: Signals
    ) -> list[str]:
        """Run the pre-flight of a configuration; return the nodes that left no report in the folder.

        Raises ClusterError naming each node with a fault.
        """
        folder.mkdir(parents=True)
        words = ["-P", "-m", "launch.preflight", "--folder", str(folder), "--config", str(config)]
        words += ["--address", meeting.address, "--port", str(meeting.port), "--nodes", ",".join(nodes)]
        words += ["--min-free-gb", str(self.cluster.min_free_gb), "--gpus", str(self.cluster.gpus_per_node)]
        words += ["--ranks-per-node", str(self.cluster.ranks), "--code-hash", self.code_hash]
        began = time.monotonic()
        step = self.srun(words, len(nodes), 1)
        if not signals.wait_at_most(step, PREFLIGHT_SECONDS):
            step.kill()
            scontrol.end_steps(scontrol.running_job(os.environ))  # a killed srun leaves its tasks alone
            step.wait()
        silent = read_reports(folder, nodes)
        if not silent:
            took = time.monotonic() - began
            say(f"pre-flight: {len(nodes)} nodes see each other, the shards, the disk and the same code ({took:.1f} s)")
        return silent

    def node_words(self, meeting: Rendezvous, nodes: int) -> list[str]:
        """Return the arguments of Python that start ranks on a node, but for what they run."""
        return [
            "-P", "-m", "launch.node", "--address", meeting.address, "--port", str(meeting.port), "--nodes", str(nodes),
            "--ranks-per-node", str(self.cluster.ranks), "--start", self.cluster.start,
            "--grace-seconds", str(self.cluster.signal_seconds),
        ]  # fmt: skip

    def srun(
        self, words: Sequence[str], nodes: int, tasks: int, output: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start Python with these arguments, so many tasks on each of so many nodes; `output` is the job's own by default."""
        line = step_command(
            self.cluster, words, nodes=nodes, tasks_per_node=tasks, cpus_per_node=self.cluster.cpus_per_node,
            folders=[Path.cwd(), Path(self.run), Path(self.code)],
        )  # fmt: skip
        return start_step(self.cluster, line, output=output)


def judge(run: Path, steps: int, code: int, exit_file: Path, signals: Signals, *, began: float) -> Outcome:
    """Decide what follows from what a start left.

    Args:
        run: Run folder.
        steps: Steps of the whole run.
        code: srun's exit code; only its being 0 says something.
        exit_file: Where rank 0 leaves the code of an error that it understood.
        signals: What the batch process was told.
        began: When training was started, in seconds since the epoch.
    """
    step = newest_step(run)
    if step >= steps:
        return Outcome("done", f"finished {step:,} of {steps:,} steps")
    if signals.ended:
        return Outcome(
            "ended", f"Slurm ended the job (cancelled, preempted or at its limit) after step {step:,}", asked=True
        )
    if exit_file.is_file() and exit_file.read_text(encoding="utf-8").strip() in FINAL_CODES:
        return Outcome("fail", f"stopped after step {step:,} by an error that no restart cures: see above")
    told = last_words_of_attempt(run, began)
    stopped = told if told.startswith("stopped by") else None
    if signals.warned or stopped:
        return Outcome("requeue", f"{stopped or 'warned'} after step {step:,}; the job goes on later", asked=True)
    if told.startswith("hung"):
        return Outcome("requeue", f"{told}; the newest checkpoint is step {step:,}")
    return Outcome("requeue", f"training died with exit code {code} after step {step:,}")


def last_words_of_attempt(run: Path, began: float) -> str:
    """Return the reason that the run's last attempt gives for its end; empty when it gave none, or began before `began`."""
    try:
        last = json.loads((run / "run.json").read_text(encoding="utf-8"))["attempts"][-1]
        started = time.mktime(time.strptime(last["start"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    except (OSError, ValueError, KeyError, IndexError):
        return ""
    return last.get("reason") or "" if started >= int(began) - 1 else ""


def given_up(row: list[Start], step: int) -> ClusterError:
    """Say why a run is given up, with the reason of every start."""
    told = "; ".join(f"on {','.join(start.nodes)}: {start.reason}" for start in row)
    return ClusterError(
        f"given up after {len(row)} starts in a row without a new checkpoint (the newest is step {step:,}): {told}. Cure the "
        "cause, then submit the run again with --resume"
    )


def go_back_to_the_queue(job: str) -> NoReturn:
    """Requeue this very job and wait for Slurm to end this process, so that no result is written for a job that goes on."""
    state = scontrol.states([job])[job]
    if state != "RUNNING":
        raise ClusterError(f"the job is {state}, so it cannot go on by itself: submit the run again with --resume")
    scontrol.requeue(job)
    time.sleep(MAX_SECONDS_TO_DIE)
    leave_without_a_result()


def leave_without_a_result() -> NoReturn:
    """End at once: submitit would write down an answer, and whether the job goes on is Slurm's to say."""
    sys.stderr.flush()
    os._exit(128 + signal.SIGTERM)


def say(text: str) -> None:
    """Tell whoever reads the job's output."""
    sys.stderr.write(f"msvl: {time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
