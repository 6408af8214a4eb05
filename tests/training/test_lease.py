"""Leases: numbered without gaps or doubles whoever asks at once; an older attempt can publish nothing."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from msvl.config.exit_codes import SUPERSEDED
from msvl.training.lease import Lease, newest


def take_many(run: Path, times: int) -> list[int]:
    return [Lease.take(run).number for _ in range(times)]


@pytest.mark.evidence("A run folder's leases are numbered without doubles when many processes ask at once", how="cpu")
def test_many_processes_get_different_numbers(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        taken = sum(pool.starmap(take_many, [(tmp_path, 10)] * 8), [])
    assert sorted(taken) == list(range(1, 81))


def test_the_older_one_has_lost(tmp_path: Path) -> None:
    assert newest(tmp_path) == 0
    older = Lease.take(tmp_path)
    assert (older.number, older.lost()) == (1, False)
    newer = Lease.take(tmp_path)
    assert (newer.number, newer.lost(), older.lost()) == (2, False, True)
    error = older.error()
    assert (error.exit_code, error.agreed) == (SUPERSEDED, True)
    assert f"attempt 2 (started {str(error).split('(started ')[1]}" in str(error)
    assert f"process {os.getpid()}) has taken this run over, so attempt 1 ends" in str(error)


def test_numbers_go_on_from_attempts_that_had_no_lease(tmp_path: Path) -> None:
    assert Lease.take(tmp_path, above=7).number == 8


def test_an_older_attempt_cannot_publish_what_it_was_writing(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    older = Lease.take(tmp_path)
    partial = older.partial(checkpoints, "step-00000004")
    partial.mkdir(parents=True)
    (partial / "file").write_text("x")
    newer = Lease.take(tmp_path)
    own = newer.partial(checkpoints, "step-00000004")
    own.mkdir()
    newer.clear_older(checkpoints)
    assert [path.name for path in checkpoints.iterdir()] == [own.name]
    with pytest.raises(FileNotFoundError):
        os.rename(partial, checkpoints / "step-00000004")
    older.clear_older(checkpoints)
    assert own.is_dir(), "an older attempt takes nothing from a newer one"
