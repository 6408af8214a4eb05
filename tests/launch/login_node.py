"""A login node without Slurm's daemons: sbatch that keeps the script, scontrol that knows no job, and a Python that only submits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from launch.requirements import PACKAGES
from launch.snapshot import code_files
from tests.helpers.runs import ROOT, tiny_config

SBATCH = """#!/bin/bash
number=$(($(ls {folder} | wc -l) + 1))
cp "${{@: -1}}" {folder}/$number.sh
echo Submitted batch job $number
"""
SCONTROL = """#!/bin/bash
echo slurm_load_jobs error: Invalid job id specified
exit 1
"""
ONLY = """
import sys
KNOWN = {known}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in KNOWN and not name.startswith("_"):
            raise ModuleNotFoundError("No module named '" + name + "' on this login node", name=name)
sys.meta_path.insert(0, Refuse())
"""
BELOW = {
    "PIL", "annotated_types", "cloudpickle", "contourpy", "cycler", "cython_runtime", "dateutil", "fontTools", "kiwisolver",
    "mpl_toolkits", "packaging", "pydantic_core", "pyparsing", "six", "typing_extensions", "typing_inspection",
}  # fmt: skip
"""What the packages of the launchers bring along."""


@dataclass
class LoginNode:
    """A checkout, and what is typed there."""

    root: Path
    data: Path

    @classmethod
    def make(cls, folder: Path, data: Path, **cluster: object) -> LoginNode:
        """Copy the checkout, edit its cluster.env, put Slurm's commands beside it."""
        root = folder / "msvl"
        for name in code_files(ROOT):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
        (folder / "submitted").mkdir()
        (folder / "bin").mkdir()
        for name, text in {"sbatch": SBATCH, "scontrol": SCONTROL, "srun": "#!/bin/bash\nexit 1\n"}.items():
            program = folder / "bin" / name
            program.write_text(text.format(folder=folder / "submitted"))
            program.chmod(0o755)
        known = sorted({*sys.stdlib_module_names, "msvl", "launch", "sitecustomize", *PACKAGES.values(), *BELOW})
        (folder / "bare").mkdir()
        (folder / "bare" / "sitecustomize.py").write_text(ONLY.format(known=known))
        values = {
            "PARTITION": "gpu", "NODES": 1, "RANKS_PER_NODE": 1, "PYTHON": sys.executable, "CONFIG": "configs/tiny.yaml",
        } | cluster  # fmt: skip
        (root / "slurm" / "cluster.env").write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
        tiny_config(root / "configs" / "tiny.yaml", data=data, runs=Path("runs"), name="tiny")
        return cls(root, data)

    def type(self, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Type `python -m MODULE ...` in the checkout."""
        return self.python("-m", module, *words)

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the Python that only submits."""
        variables = os.environ | {
            "PYTHONPATH": str(self.root.parent / "bare"), "PATH": f"{self.root.parent / 'bin'}:{os.environ['PATH']}"
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, *words], cwd=self.root, env=variables, capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def submitted(self) -> list[str]:
        """Return the scripts that sbatch was given, in order."""
        files = (self.root.parent / "submitted").glob("*.sh")
        return [path.read_text() for path in sorted(files, key=lambda path: int(re.sub(r"\D", "", path.stem)))]
