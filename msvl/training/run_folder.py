"""The folder of a run: everything a figure needs to be believed is in it. Written by rank 0 only (logs by each rank)."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msvl.config.errors import CheckpointError
from msvl.config.private import private_folder
from msvl.config.save import config_to_yaml, save_config
from msvl.training.config import PretrainConfig

PACKAGES = ("torch", "deepspeed", "accelerate", "transformers", "webdataset", "wandb", "submitit", "einops", "numpy")
METRICS = "metrics.jsonl"
COMMIT_FILE = ".commit"
"""At the root of a snapshot of the code: the commit of the checkout that it was taken from."""


class RunFolder:
    """runs/NAME with its parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / METRICS
        self.logs = path / "log"

    def check_start(self, *, resume: bool) -> None:
        """Raise CheckpointError when a start would mix two runs in one folder."""
        if resume or not self.path.exists():
            return
        begun = self.metrics.is_file() and self.metrics.stat().st_size > 0
        if begun or any(self.checkpoints.glob("step-*")):
            raise CheckpointError(
                f"{self.path} already holds a run: --resume goes on with it, run.name=OTHER starts beside it, or remove it"
            )

    def create(self) -> None:
        """Make the folders, for their owner only (reports may end up in them).

        A folder that somebody made beforehand is closed too; one of a run that goes on stays as its owner has set it.
        """
        private_folder(self.path)
        if not (self.path / "run.json").is_file():
            self.path.chmod(0o700)
        for folder in (self.checkpoints, self.logs):
            private_folder(folder)

    def last_attempt(self) -> int:
        """Return the number of the last attempt that run.json tells of, 0 without one."""
        return max((attempt["number"] for attempt in self.read().get("attempts", [])), default=0)

    def begin_attempt(self, config: PretrainConfig, number: int, *, facts: dict[str, Any], resumed_at: int) -> None:
        """Record the start of attempt `number` in run.json, and the resolved config."""
        record = self.read()
        target = self.path / "config.yaml"
        if target.is_file() and target.read_text(encoding="utf-8") != config_to_yaml(config):
            shutil.copy2(target, self.path / f"config-before-attempt-{number}.yaml")
        save_config(config, target)
        record |= {"name": config.run.name, "versions": versions(), "git_commit": git_commit(), "facts": facts}
        attempt = {
            "number": number,
            "command": sys.argv,
            "host": socket.gethostname(),
            "start": _now(),
            "end": None,
            "reason": None,
            "resumed_at_step": resumed_at,
            "ranks": facts.get("ranks"),
        }
        record.setdefault("attempts", []).append(attempt)
        self.write(record)

    def end_attempt(self, number: int, reason: str) -> None:
        """Record when and why attempt `number` ended; the first one to say so is believed (the watchdog, or the rank)."""
        record = self.read()
        for attempt in record["attempts"]:
            if attempt["number"] == number and attempt["reason"] is None:
                attempt |= {"end": _now(), "reason": reason}
        self.write(record)

    def start_log(self, rank: int) -> None:
        """Send this rank's log to log/rank-N.txt; rank 0 also speaks to the terminal (warnings only)."""
        root = logging.getLogger("msvl")
        root.setLevel(logging.INFO)
        root.handlers.clear()
        to_file = logging.FileHandler(self.logs / f"rank-{rank:05d}.txt", encoding="utf-8")
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(to_file)
        to_terminal = logging.StreamHandler(sys.stderr)
        to_terminal.setLevel(logging.WARNING if rank == 0 else logging.ERROR)
        to_terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        root.addHandler(to_terminal)

    def stop_log(self) -> None:
        """Write nothing more to log/."""
        root = logging.getLogger("msvl")
        for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
            root.removeHandler(handler)
            handler.close()

    def read(self) -> dict[str, Any]:
        """Return run.json, empty where there is none yet."""
        path = self.path / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def write(self, record: dict[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        temporary = self.path / f".run.json.{os.getpid()}"
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(temporary, self.path / "run.json")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "msvl": importlib.import_module("msvl").__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Return the checkout's commit, with '+changes' when the tree differs from it, or None outside a checkout."""
    here = Path(__file__).resolve().parent
    snapshot = here.parents[1] / COMMIT_FILE
    if snapshot.is_file():
        return snapshot.read_text(encoding="utf-8").strip()
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if dirty else commit


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
