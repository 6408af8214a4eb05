"""Who may enter a run folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from msvl.training.run_folder import RunFolder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.evidence("A run folder is closed to others, also one that somebody made beforehand", how="cpu")
def test_a_run_folder_is_for_its_owner(tmp_path: Path) -> None:
    made = RunFolder(tmp_path / "runs" / "new")
    made.create()
    assert [mode(path) for path in (made.path, made.checkpoints, made.logs)] == [0o700] * 3
    (tmp_path / "open").mkdir(mode=0o755)
    found = RunFolder(tmp_path / "open")
    found.create()
    assert mode(found.path) == 0o700


def test_a_run_that_goes_on_keeps_what_its_owner_has_set(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create()
    (run.path / "run.json").write_text("{}")
    run.path.chmod(0o750)
    run.create()
    assert mode(run.path) == 0o750
