"""The process environment of every entry point: set before torch is imported. Standard library only."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from msvl.config.errors import ClusterError

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
STALE_LOCK_SECONDS = 600
"""An op takes about a minute to build; a lock this old belongs to nobody."""
IDLE_LOCK_SECONDS = 10
"""A start that finds the op built holds the lock for less than a second, without a compiler."""


@dataclass(frozen=True)
class LaunchedRank:
    """Which process of how many this is, as its launcher says."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int


def prepare_environment() -> None:
    """Set what msvl's libraries read from the environment, where the user has not set it."""
    binaries = str(Path(sys.prefix) / "bin")
    path = os.environ.get("PATH", "")
    if binaries not in path.split(os.pathsep):
        os.environ["PATH"] = binaries + os.pathsep + path  # ninja, for DeepSpeed's op
    if not accelerators():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    extensions = Path(sys.prefix) / "torch_extensions"
    if os.access(sys.prefix, os.W_OK):
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(extensions))
    clear_stale_locks(Path(os.environ.get("TORCH_EXTENSIONS_DIR", extensions)))
    _check_threads()
    # Idle OpenMP threads sleep instead of spinning: a quarter of the CPU time for judgement on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # no line for every retry of every rank
    os.environ.setdefault("WANDB_SILENT", "true")


def _check_threads() -> None:
    """Take an empty OMP_NUM_THREADS for an unset one. Raises ClusterError when it is no number: launchers crash on it."""
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is None:
        return
    if not threads.strip():
        del os.environ["OMP_NUM_THREADS"]
    elif not (threads.isdigit() and int(threads)):
        raise ClusterError(f"OMP_NUM_THREADS={threads} is no number of threads: unset it or set it to 1 or more")


def accelerators() -> int:
    """Return the number of visible NVIDIA GPUs, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = sum(1 for device in Path("/dev").glob("nvidia[0-9]*") if device.name[6:].isdigit())
    if visible is None or not present:
        return present
    return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])


def prepare_rank() -> LaunchedRank:
    """Return which rank this process is; without a launcher, set it up as rank 0 of 1.

    Raises ClusterError when a launcher set some of the variables and not others.
    """
    present = [name for name in RANK_VARIABLES if os.environ.get(name)]
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & set(present):
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        os.environ.update(alone | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})
    else:
        missing = [name for name in RANK_VARIABLES if name not in present]
        if missing:
            raise ClusterError(
                f"the environment has {', '.join(present)} but not {', '.join(missing)}: start with `msvl train`, "
                "`accelerate launch` or `torchrun`, or unset them all for one process"
            )
        die_with_parent()
    try:
        rank, local, world = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    except ValueError as error:
        raise ClusterError(f"RANK, LOCAL_RANK and WORLD_SIZE must be whole numbers: {error}") from error
    if not 0 <= rank < world:
        raise ClusterError(
            f"RANK={rank} does not lie below WORLD_SIZE={world}: the launcher's variables contradict each other"
        )
    return LaunchedRank(rank=rank, local_rank=local, world_size=world, local_world_size=here)


def free_port() -> int:
    """Return a TCP port that the system has just found free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, so that a killed launcher leaves no orphan (Linux)."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def die_with(process: int) -> None:
    """End this process as soon as another one ends, which need not be its parent (Linux).

    A worker that a fork server made is that server's child, and the server lives as long as its workers do: when the rank
    behind them is killed, nobody would tell them.
    """
    if sys.platform != "linux":
        return
    handle = os.pidfd_open(process)

    def wait() -> None:
        select.select([handle], [], [])
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="ends with its owner").start()


def clear_stale_locks(extensions: Path) -> None:
    """Remove the build locks that a killed build left: torch would wait for them for ever.

    A builder holds no kernel lock on the file, so the file's own age decides: also a start that only loads the op
    holds it for a moment, without a compiler. Such a lock is waited for, at most ``IDLE_LOCK_SECONDS``. A second flock
    keeps two starts from racing here.
    """
    for lock in extensions.glob("*/lock"):
        try:
            with open(lock, "rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                opened = os.fstat(stream.fileno())
                while os.path.samestat(opened, lock.stat()):
                    age, builds = time.time() - opened.st_mtime, _builder_alive()
                    if age > (STALE_LOCK_SECONDS if builds else IDLE_LOCK_SECONDS):
                        lock.unlink(missing_ok=True)
                    if builds:
                        break
                    time.sleep(0.1)
        except OSError:
            continue


def _builder_alive() -> bool:
    """Return whether any ninja or compiler runs on this machine (a build always has one)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if name in {"ninja", "c++", "g++", "cc1plus", "gcc", "nvcc", "ld"}:
            return True
    return False
