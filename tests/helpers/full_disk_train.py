"""Run training as one rank whose disk is full during a given save (FULL_AT). Nothing in the package knows of it."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])


def main() -> int:
    """Let every file of the given save fail with ENOSPC on the given rank, and train."""
    from msvl.environment import prepare_environment

    prepare_environment()
    plan = json.loads(os.environ["FULL_AT"])
    if int(os.environ["RANK"]) == plan["rank"]:
        from msvl.training import saver, storage

        saves = [0]
        count = saver.capture
        write = storage.write_torch

        def counted(*arguments: object, **named: object) -> object:
            saves[0] += 1
            return count(*arguments, **named)  # type: ignore[arg-type]

        def full(value: object, path: str) -> str:
            if saves[0] == plan["save"]:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            return write(value, path)

        saver.capture = counted  # type: ignore[assignment]
        storage.write_torch = full
    from msvl.training.cli import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
