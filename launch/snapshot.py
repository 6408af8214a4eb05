"""The code of a run, copied beside its checkpoints: what is edited after `sbatch` does not change a job that waits."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from msvl.config.errors import ClusterError
from msvl.training.run_folder import COMMIT_FILE, git_commit

PARTS = ("msvl", "launch", "configs", "slurm")
"""What a job needs of the checkout."""


def snapshot_folder(root: Path, folder: Path) -> Path:
    """Return where `take_snapshot` puts the code that is in the checkout now."""
    return folder / code_hash(root)[:12]


def take_snapshot(root: Path, folder: Path) -> Path:
    """Copy the code into folder/HASH, or find it there; return that folder."""
    target = snapshot_folder(root, folder)
    if target.is_dir():
        return target
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    for name in code_files(root):
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, partial / name)
    (partial / COMMIT_FILE).write_text(git_commit() or "no commit", encoding="utf-8")
    os.rename(partial, target)
    return target


def code_files(root: Path) -> list[str]:
    """Return the tracked and new files of the checkout's code, ignored ones left out, sorted."""
    if (root / ".git").exists():
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS],
            cwd=root, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise ClusterError(f"git ls-files failed in {root}: {done.stderr.decode(errors='replace').strip()}")
        names = [name for name in done.stdout.decode().split("\0") if name and (root / name).is_file()]
    else:
        names = [str(path.relative_to(root)) for part in PARTS for path in (root / part).rglob("*") if path.is_file()]
        names = [name for name in names if "__pycache__" not in name]
    return sorted(names)


def code_hash(root: Path) -> str:
    """Return a hash of names and contents of the code."""
    digest = hashlib.sha256()
    for name in code_files(root):
        digest.update(name.encode() + b"\0" + hashlib.sha256((root / name).read_bytes()).digest())
    return digest.hexdigest()
