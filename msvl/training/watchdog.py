"""The watchdog: one small process per node that sees when no step comes any more, writes one page, and ends the attempt.

It is no thread of a rank: a rank that is stopped, or stuck in a driver, takes its threads along. It reads the ranks' heartbeats;
when none of a node's ranks has finished a step within the limit, it asks every rank for its stacks, leaves them in `hang/` of
the run folder, and ends the ranks with the exit code for a requeue. The node of rank 0 makes the page of all nodes.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msvl.config.exit_codes import REQUEUE
from msvl.monitoring.heartbeat import STEP_PHASES, Beat, Heartbeat, read_beat, tell_to_leave

STACK_SIGNAL = signal.SIGRTMIN + 5
OTHER_NODES_SECONDS = 20.0
"""How long the page waits for the other nodes: their ranks stood still at the same moment, give or take a phase."""
LEAVE_SECONDS = 5.0
OTHER_SHARE = 2
"""What is no step reads and writes much at once, on disks that others use too."""


def node_folder(run: Path, attempt: int) -> Path:
    """Return where this node's heartbeats lie: the same for its ranks, another for another node of the same machine."""
    node = "-".join(os.environ.get(name, "") for name in ("SLURM_NODEID", "GROUP_RANK"))
    name = "-".join(part for part in (*run.resolve().parts[1:], str(attempt), node) if part)
    return Path(tempfile.gettempdir()) / f"msvl-{os.getuid()}" / name[-200:]


def start_heartbeat(folder: Path, *, rank: int, readers: int, watched: bool) -> Heartbeat:
    """Begin this rank's heartbeat; where it is watched, it tells its stacks when asked, and leaves when told to."""
    heart = Heartbeat(folder / f"rank-{rank:05d}" if watched else None, rank=rank, readers=readers)
    if not watched:
        return heart
    stacks = open(folder / f"stacks-{rank:05d}.txt", "a", encoding="utf-8")  # noqa: SIM115 - the handler writes to it
    faulthandler.register(STACK_SIGNAL, file=stacks, all_threads=True)
    threading.Thread(target=_leave_when_told, args=(heart,), daemon=True, name="msvl-leave").start()
    return heart


def start_watchdog(folder: Path, run: Path, *, attempt: int, world: int, seconds: float) -> None:
    """Start this node's watchdog; it ends by itself when its ranks are gone."""
    package = str(Path(__file__).resolve().parents[2])  # the run may have been started by path, without an installation
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    words = ["--folder", folder, "--run", run, "--attempt", attempt, "--world", world, "--seconds", seconds]
    subprocess.Popen(
        [sys.executable, "-m", "msvl.training.watchdog", *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def _leave_when_told(heart: Heartbeat) -> None:
    while not heart.told_to_leave():
        time.sleep(0.2)
    os._exit(REQUEUE)


def watch(folder: Path, run: Path, *, attempt: int, world: int, seconds: float) -> None:
    """Look at this node's ranks until they are gone or hang."""
    while True:
        time.sleep(min(1.0, seconds / 10))
        beats = _beats(folder)
        if not any(beat.alive() for beat in beats):
            break
        if not _ended(beats) and all(time.monotonic() > deadline(beat, seconds) for beat in beats):
            _report(folder, beats, run, attempt=attempt, world=world, seconds=seconds)
            _end(folder)
            break
    shutil.rmtree(folder, ignore_errors=True)


def deadline(beat: Beat, seconds: float) -> float:
    """Return when a rank must have gone on: a step has `seconds`, a start, a judgement or a save OTHER_SHARE times that."""
    return beat.now["mark"] + seconds * (1 if beat.now["phase"] in STEP_PHASES else OTHER_SHARE)


def _ended(beats: list[Beat]) -> bool:
    return all(beat.now["phase"] == "end" for beat in beats)


def _beats(folder: Path) -> list[Beat]:
    found = [read_beat(path) for path in sorted(folder.glob("rank-*"))]
    return [beat for beat in found if beat is not None]


def _report(folder: Path, beats: list[Beat], run: Path, *, attempt: int, world: int, seconds: float) -> None:
    """Leave this node's part in the run folder; on the node of rank 0, the page."""
    from msvl.training.hang_page import write_page  # only now: the watchdog itself stays small
    from msvl.training.lease import newest

    if newest(run) > attempt:
        return  # another attempt has the run: its folder is not ours any more
    now = time.monotonic()
    ranks = [asdict(beat) | {"state": process_state(beat), "seen": now} for beat in beats]
    for entry, beat in zip(ranks, beats, strict=True):
        entry["stacks"] = _stacks(folder, beat)
    parts = run / "hang" / f"attempt-{attempt:08d}"
    parts.mkdir(parents=True, exist_ok=True, mode=0o700)
    first = min(beat.who["rank"] for beat in beats)
    aside = parts / f".node-{first:05d}"
    aside.write_text(json.dumps(ranks), encoding="utf-8")
    os.replace(aside, parts / f"node-{first:05d}.json")
    page = parts.with_suffix(".txt")
    if first == 0:
        write_page(page, parts, run, attempt=attempt, world=world, seconds=seconds, patience=OTHER_NODES_SECONDS)
        return
    end = time.monotonic() + 2 * OTHER_NODES_SECONDS
    while not page.is_file() and time.monotonic() < end:
        time.sleep(0.2)


def process_state(beat: Beat) -> str:
    """Return in words what the kernel says of a rank's process."""
    pid = beat.who["pid"]
    if not beat.alive():
        return "gone"
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        where = Path(f"/proc/{pid}/wchan").read_text().strip("0\n")
    except OSError:
        return "gone"
    words = {
        "T": "stopped",
        "t": "traced",
        "R": "running",
        "S": "sleeping",
        "D": "waiting for a device or a file system",
    }
    return words.get(letter, letter) + (f" in {where}" if where else "")


def _stacks(folder: Path, beat: Beat) -> str:
    """Return the Python stacks of a rank and of its loader processes, as they tell them themselves."""
    path, pid = folder / f"stacks-{beat.who['rank']:05d}.txt", beat.who["pid"]
    for process in [pid, *_children(pid)] if beat.alive() else []:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(f"process {process}{'' if process == pid else ' (loader)'}:\n")
        begin = path.stat().st_size
        try:
            os.kill(process, STACK_SIGNAL)
            os.kill(process, signal.SIGCONT)  # a stopped process tells its stack as soon as it may run
        except ProcessLookupError:
            continue
        _wait_for_stack(path, begin)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _wait_for_stack(path: Path, begin: int) -> None:
    """Wait until a file has grown beyond `begin` and grows no more, at most three seconds."""
    end, size = time.monotonic() + 3.0, -1
    while time.monotonic() < end:
        time.sleep(0.2)
        found = path.stat().st_size
        if begin < found == size:
            return
        size = found


def _children(pid: int) -> list[int]:
    """Return the loader processes of a rank: its children that run the same program."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [int(word) for word in words if Path(f"/proc/{word}/cmdline").read_bytes() == own]
    except OSError:
        return []


def _end(folder: Path) -> None:
    """End this node's ranks with the code for a requeue; kill those that do not answer."""
    for path in folder.glob("rank-*"):
        tell_to_leave(path)
    beats, end = _beats(folder), time.monotonic() + LEAVE_SECONDS
    while any(beat.alive() for beat in beats) and time.monotonic() < end:
        time.sleep(0.1)
    for beat in beats:
        if beat.alive():
            os.kill(beat.who["pid"], signal.SIGKILL)


def main() -> int:
    """Watch one node."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # meant for the ranks; the watchdog goes when they do
    parser = argparse.ArgumentParser(prog="python -m msvl.training.watchdog")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    told: dict[str, Any] = vars(parser.parse_args())
    watch(told.pop("folder"), told.pop("run"), **told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
