"""What a user has: a checkout, an edited cluster.env, a small configuration; and what they type."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.snapshot import code_files
from tests.helpers.runs import ROOT, tiny_config
from tests.slurm.private_cluster import PrivateCluster, until

OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def copy_checkout(folder: Path) -> Path:
    for name in code_files(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@dataclass
class Checkout:
    """A checkout beside a private cluster."""

    root: Path
    slurm: PrivateCluster
    data: Path

    def edit_cluster(self, **values: object) -> None:
        """Fill in slurm/cluster.env."""
        known = {
            "PARTITION": "main", "NODES": 2, "GPUS_PER_NODE": 0, "RANKS_PER_NODE": 1, "CPUS_PER_NODE": 1, "TIME": 20,
            "SIGNAL_SECONDS": 60, "MIN_FREE_GB": 0.1, "PYTHON": sys.executable, "LAUNCH_PYTHON": sys.executable,
            "CONFIG": "configs/tiny.yaml", "MODULES": "", "export OMP_NUM_THREADS": 1,
        } | values  # fmt: skip
        lines = [f'{name}="{value}"' for name, value in known.items()]
        (self.root / "slurm" / "cluster.env").write_text("\n".join(lines) + "\n")

    def write_config(self, name: str = "tiny", **sections: dict) -> Path:
        """Write a configuration of a model that trains in milliseconds a step."""
        path = self.root / "configs" / f"{name}.yaml"
        return tiny_config(path, data=self.data, runs=Path("runs"), name=name, **sections)

    def run_folder(self, name: str = "tiny") -> Path:
        return self.root / "runs" / name

    def type(self, *words: str, limit: float = 120) -> subprocess.CompletedProcess[str]:
        """Type a command in the checkout."""
        return subprocess.run(
            list(words), cwd=self.root, env=self.slurm.variables(), text=True, capture_output=True, timeout=limit,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def sbatch(self, script: str, *words: str) -> tuple[str, str]:
        """`sbatch slurm/SCRIPT.sh ...`; return the number of the job that it submits, and what it printed."""
        done = self.type("sbatch", f"slurm/{script}.sh", *words)
        assert done.returncode == 0, done.stderr
        small = re.search(r"\d+", done.stdout)[0]  # type: ignore[index]
        assert self.wait(small, limit=60) in OVER
        output = (self.root / f"slurm-{script}-{small}.txt").read_text()
        last = output.strip().splitlines()[-1]
        return last if last.replace(" ", "").isdigit() else "", output

    def state(self, job: str) -> str:
        return self.slurm.job(job).get("JobState", "FORGOTTEN")

    def wait(self, job: str, *, limit: float = 150, states: set[str] = OVER) -> str:
        """Wait until a job is over, or in one of `states`; return its state."""
        until(lambda: self.state(job) in states, limit, f"job {job} in {sorted(states)}", lambda: self.explain(job))
        return self.state(job)

    def wait_for_step(self, step: int, *, name: str = "tiny", limit: float = 120, job: str = "") -> None:
        """Wait until a run has logged a step."""
        metrics = self.run_folder(name) / "metrics.jsonl"

        def reached() -> bool:
            return metrics.is_file() and f'"step": {step},' in metrics.read_text()

        until(reached, limit, f"step {step} of {name}", lambda: self.explain(job))

    def output(self, job: str, name: str = "tiny") -> str:
        path = self.run_folder(name) / "slurm" / f"{job}_0_log.out"
        return path.read_text(errors="replace") if path.is_file() else ""

    def starts(self, name: str = "tiny") -> list[dict[str, Any]]:
        return json.loads((self.run_folder(name) / "slurm" / "starts.json").read_text())

    def explain(self, job: str) -> str:
        """Return what is known of a job, for a failing test."""
        if not job:
            return self.slurm.logs()
        outputs = [
            path.read_text(errors="replace")[-4000:] for path in self.root.glob(f"runs/**/slurm/{job}_*_log.out")
        ]
        return "\n".join([str(self.slurm.job(job)), *outputs, self.slurm.logs()])
