"""What every entry point sets before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from msvl import environment
from msvl.config.errors import ClusterError
from msvl.environment import LaunchedRank, clear_stale_locks, prepare_environment, prepare_rank

LAUNCHED = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in (*LAUNCHED, "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    monkeypatch.setattr(environment, "die_with_parent", lambda: None)


def test_ninja_is_found_and_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["PATH"] = "/usr/bin"
    os.environ["DS_ACCELERATOR"] = "cuda"
    prepare_environment()
    prepare_environment()
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.prefix) / "bin"), "/usr/bin"]
    assert os.environ["DS_ACCELERATOR"] == "cuda"


def test_an_empty_number_of_threads_is_none_and_a_word_is_refused() -> None:
    os.environ["OMP_NUM_THREADS"] = ""
    prepare_environment()
    assert "OMP_NUM_THREADS" not in os.environ
    os.environ["OMP_NUM_THREADS"] = "two"
    with pytest.raises(ClusterError, match="OMP_NUM_THREADS=two is no number of threads"):
        prepare_environment()


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), (None, 0)])
def test_no_accelerator_here(monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int) -> None:
    monkeypatch.setattr(environment.Path, "glob", lambda self, pattern: iter(()))
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    assert environment.accelerators() == count


@pytest.mark.parametrize(("visible", "count"), [(None, 2), ("1", 1), ("0,1", 2), ("", 0)])
def test_visible_accelerators_are_counted(monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int) -> None:
    devices = [Path("/dev/nvidia0"), Path("/dev/nvidia1"), Path("/dev/nvidia0foo")]
    monkeypatch.setattr(environment.Path, "glob", lambda self, pattern: iter(devices))
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    assert environment.accelerators() == count


def test_without_a_launcher_a_process_is_rank_0_of_1() -> None:
    assert prepare_rank() == LaunchedRank(0, 0, 1, 1)
    assert int(os.environ["MASTER_PORT"]) > 1023


def test_the_launcher_says_which_rank_this_is() -> None:
    os.environ.update(LAUNCHED)
    assert prepare_rank() == LaunchedRank(1, 1, 4, 4)
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    assert prepare_rank().local_world_size == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MASTER_PORT": None}, "but not MASTER_PORT: start with `msvl train`"),
        ({"RANK": "one"}, "must be whole numbers"),
        ({"RANK": "4"}, "RANK=4 does not lie below WORLD_SIZE=4"),
    ],
)
def test_contradictions_of_a_launcher(change: dict[str, str | None], message: str) -> None:
    os.environ.update({key: value for key, value in (LAUNCHED | change).items() if value is not None})
    with pytest.raises(ClusterError, match=message):
        prepare_rank()


@pytest.mark.parametrize(
    ("builder", "age", "stays"),
    [
        pytest.param(True, 0, True, id="somebody-builds"),
        pytest.param(False, 2 * environment.IDLE_LOCK_SECONDS, False, id="killed"),
        pytest.param(True, 2 * environment.IDLE_LOCK_SECONDS, True, id="a-long-build"),
        pytest.param(True, 2 * environment.STALE_LOCK_SECONDS, False, id="old"),
    ],
)
def test_a_stale_build_lock_goes_and_a_live_one_stays(
    builder: bool, age: float, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "op" / "lock"
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (time.time() - age,) * 2)
    monkeypatch.setattr(environment, "_builder_alive", lambda: builder)
    clear_stale_locks(tmp_path)
    assert lock.exists() == stays


def test_a_start_that_only_loads_an_op_keeps_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "op" / "lock"
    lock.parent.mkdir()
    lock.touch()
    monkeypatch.setattr(environment, "_builder_alive", lambda: False)
    loader = threading.Timer(0.5, lock.unlink)
    loader.start()
    assert lock.exists()
    clear_stale_locks(tmp_path)
    assert loader.finished.is_set(), "the lock was taken away from a process that held it"


@pytest.mark.skipif(sys.platform != "linux", reason="a service of the Linux kernel")
def test_a_killed_parent_takes_its_children_along() -> None:
    child = "from msvl.environment import die_with_parent; import os, time; die_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        process.kill()
        process.wait()
        for _ in range(100):
            if not _runs(number):
                return
            time.sleep(0.05)
    pytest.fail(f"process {number} outlived its parent")


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
