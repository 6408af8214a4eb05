"""One writer: an attempt takes the run folder by the next number; whoever finds a higher one writes nothing more.

`attempts/00000003` in the run folder is the third attempt's lease. Creating a file that must not exist yet is atomic on local
and on shared file systems (NFS, Lustre, GPFS), unlike a lock, which dies with its node's daemon and not with its process.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

from msvl.config.errors import SupersededError

FOLDER = "attempts"
PARTIAL = ".partial-"
"""How the folder of an unfinished checkpoint begins; the number of its attempt follows."""


class Lease:
    """The right of one attempt to write into a run folder."""

    def __init__(self, run: Path, number: int) -> None:
        """Speak of a lease that was taken, on any rank."""
        self.run = run
        self.number = number

    @classmethod
    def take(cls, run: Path, *, above: int = 0) -> Lease:
        """Take the folder from whoever has it; `above` is the highest number given so far that has no lease."""
        folder = run / FOLDER
        folder.mkdir(exist_ok=True, mode=0o700)
        who = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        while True:
            number = max(above, newest(run)) + 1
            try:
                with open(folder / f"{number:08d}", "x", encoding="utf-8") as stream:
                    json.dump(who, stream)
            except FileExistsError:  # another start was quicker
                continue
            return cls(run, number)

    def lost(self) -> bool:
        """Return whether a newer attempt has the folder."""
        return newest(self.run) > self.number

    def error(self) -> SupersededError:
        """Return what ends an attempt that lost the folder; every rank raises it."""
        number = newest(self.run)
        try:
            who = json.loads((self.run / FOLDER / f"{number:08d}").read_text(encoding="utf-8"))
            started = f" (started {who['start']} on {who['host']}, process {who['pid']})"
        except (OSError, ValueError, KeyError):  # still being written
            started = ""
        return SupersededError(
            f"{self.run}: attempt {number}{started} has taken this run over, so attempt {self.number} ends and writes nothing "
            "more; nothing is to be done"
        ).on_all_ranks()

    def clear_older(self, checkpoints: Path) -> None:
        """Take unfinished checkpoints away from older attempts: none of them can be published after this."""
        for folder in checkpoints.glob(f"{PARTIAL}*"):
            owner = folder.name.removeprefix(PARTIAL).partition("-")[0]
            if owner.isdigit() and int(owner) >= self.number:
                continue
            # Moved in one step first: a folder that is being removed must not be renamed into a checkpoint.
            aside = checkpoints / f".removed-{self.number:08d}-{folder.name.lstrip('.')}"
            os.replace(folder, aside)
        for folder in checkpoints.glob(".removed-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def partial(self, checkpoints: Path, name: str) -> Path:
        """Return where this attempt writes the checkpoint `name` before it is published."""
        return checkpoints / f"{PARTIAL}{self.number:08d}-{name}"


def newest(run: Path) -> int:
    """Return the number of the newest attempt, 0 without one.

    The folder is listed, not asked for one name: a client of a network file system may remember for a minute that a name
    does not exist, but looks at a folder anew when it is opened.
    """
    try:
        return max((int(name) for name in os.listdir(run / FOLDER) if name.isdigit()), default=0)
    except FileNotFoundError:
        return 0
