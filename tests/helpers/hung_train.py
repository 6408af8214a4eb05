"""Run training as one rank that hangs (HANG_AT): in its loader, on its way to a collective, or stopped by a signal.

Started by accelerate in place of msvl/train.py. Nothing in the package knows of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])


def sleep_for_ever(*_: Any, **__: Any) -> None:
    """Be found sleeping by the watchdog."""
    time.sleep(3600)


def stand_still(*_: Any, **__: Any) -> None:
    """Stop as if by a debugger or a full terminal."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)


def install(where: str, number: int) -> None:
    """Let the call `number` (from 1) of a function hang."""
    from msvl.collectives import gather
    from msvl.data.reader import SampleReader
    from msvl.training.engine import Engine
    from tests.helpers.killed_train import on_call

    owner: Any
    owner, name, action = {
        "loader": (SampleReader, "image", sleep_for_ever),
        "collective": (gather, "_all_gather", sleep_for_ever),
        "stopped": (Engine, "forward", stand_still),
    }[where]
    on_call(owner, name, number, action)


def main() -> int:
    """Install the hang, which never comes where it is another rank's turn, and train.

    On all ranks: strict collectives compare the lines that call, and one rank's would be that of `on_call`.
    """
    from msvl.environment import prepare_environment

    plan = json.loads(os.environ["HANG_AT"])
    prepare_environment()
    install(plan["where"], plan["number"] if int(os.environ["RANK"]) == plan["rank"] else 0)
    from msvl.training.cli import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
