"""The code of a run is frozen, and only msvl is ever installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from launch.snapshot import code_hash, take_snapshot
from tests.helpers.runs import ROOT


def test_a_snapshot_has_the_code_and_its_commit_and_is_taken_once(tmp_path: Path) -> None:
    first = take_snapshot(ROOT, tmp_path)
    assert take_snapshot(ROOT, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert code_hash(first) == code_hash(ROOT)
    (first / "msvl" / "cli.py").write_text("changed")
    assert code_hash(first) != code_hash(ROOT)


def test_a_job_imports_the_snapshot_and_not_the_checkout(tmp_path: Path) -> None:
    code = take_snapshot(ROOT, tmp_path)
    line = "import msvl, launch.attempt; from msvl.training.run_folder import git_commit; print(msvl.__file__); print(git_commit())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", line], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(code)}, capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    where, commit = done.stdout.split()
    assert Path(where).is_relative_to(code)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commit.startswith(head)


def test_setup_installs_msvl_only() -> None:
    assert 'find_packages(include=["msvl", "msvl.*"])' in (ROOT / "setup.py").read_text()
