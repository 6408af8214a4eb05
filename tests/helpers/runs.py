"""Start tiny runs by the real launcher, and read what they left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from msvl.monitoring.writers import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "MSVL_TEST_TOKEN"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--use_deepspeed", "--num_machines", "1"]


@dataclass(frozen=True)
class Finished:
    """A run that ended."""

    code: int
    output: str
    token: str


def tiny_config(path: Path, *, data: Path, runs: Path, name: str, **sections: dict) -> Path:
    """Write the configuration of a model that trains in milliseconds a step; `sections` are merged in."""
    tree: dict = {
        "run": {"name": name, "folder": str(runs)},
        "data": {
            "path": str(data), "image_size": 32, "workers": 0,
            "report": {"max_tokens": 48, "max_sentences": 6, "sentence_sampling": "random_subset"},
        },
        "model": {
            "channels": 16,
            "image": {"width": 64, "depth": 1, "heads": 2, "mlp_width": 64, "patch": 16, "stem": "conv",
                      "decoder": {"width": 16, "depth": 1, "heads": 2}},
            "text": {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32, "mask_ratio": 0.3},
        },
        "objectives": {"modality": {"cross_sample_weight": 0.1}},
        "train": {"steps": 8, "global_batch": 8, "log_every": 1, "save_every": 100, "threads_per_rank": 1, "check_collectives": True,
                  "timeout_minutes": 2},
        "optimizer": {"lr": 1e-3, "warmup_steps": 2},
        "validation": {"every": 1000, "samples": 16, "best_metric": "retrieval.report_r5"},
        "wandb": {"enabled": False},
    }  # fmt: skip
    for section, values in sections.items():
        tree.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(tree))
    return path


def launch(
    config: Path, *words: str, ranks: int = 2, script: str = "msvl/train.py", environment: dict[str, str] | None = None,
    limit: float = 150,
) -> Finished:  # fmt: skip
    """Run a script by accelerate on `ranks` real processes; fail loudly when it does not end in time."""
    return execute(launch_line(config, *words, ranks=ranks, script=script), environment=environment, limit=limit)


def launch_line(config: Path, *words: str, ranks: int = 2, script: str = "msvl/train.py") -> list[str]:
    """Return the command by which `launch` starts a script."""
    line = [*LAUNCH, "--num_processes", str(ranks), "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*line, str(ROOT / script), "--config", str(config), *words]


def execute(line: Sequence[str], *, environment: dict[str, str] | None = None, limit: float = 150) -> Finished:
    """Run a command from the checkout's root, with a token by which its descendants can be found."""
    return start(line, environment=environment).wait(limit)


class Started:
    """A command that goes on beside the test; `wait` or `end` must be called."""

    def __init__(self, process: subprocess.Popen[str], token: str) -> None:
        self.process = process
        self.token = token

    def wait(self, limit: float = 150) -> Finished:
        """Return how it ended; raise subprocess.TimeoutExpired after `limit` seconds, with all of it killed."""
        try:
            output, _ = self.process.communicate(timeout=limit)
        except BaseException:
            self.end()
            raise
        return Finished(code=self.process.returncode, output=output, token=self.token)

    def pids(self) -> list[int]:
        """Return the processes of this command that are alive."""
        return [pid for pid, _ in _carriers(self.token)]

    def end(self) -> None:
        """Kill all that is left of it."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def start(line: Sequence[str], *, environment: dict[str, str] | None = None) -> Started:
    """Start a command as `execute` does, and return at once."""
    token = uuid.uuid4().hex
    variables = {**os.environ, **(environment or {}), TOKEN: token, "PYTHONPATH": str(ROOT)}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        variables.pop(name, None)
    process = subprocess.Popen(
        list(line), cwd=ROOT, env=variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Started(process, token)


def until(condition: Callable[[], object], limit: float = 90) -> None:
    """Wait until something is true; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def orphans(token: str, patience: float = 20) -> list[str]:
    """Return the command lines of processes that still carry the token after `patience` seconds."""
    deadline = time.monotonic() + patience
    while found := _carriers(token):
        if time.monotonic() > deadline:
            return [line for _, line in found]
        time.sleep(0.2)
    return []


def _carriers(token: str) -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{TOKEN}={token}".encode() in (folder / "environ").read_bytes():
                found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
        except OSError:
            continue
    return found


def losses(run: Path) -> list[tuple[int, dict[str, float], int]]:
    """Return (step, losses, digest of the sample ids) of every step, exact to the bit."""
    return [
        (record["step"], {k: v for k, v in record.items() if k.startswith("loss/")}, record["data/samples_digest"])
        for record in read_metrics(run / "metrics.jsonl")
        if "loss/total" in record
    ]
