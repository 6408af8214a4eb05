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
        from msvl.training import checkpoint, storage

        saves = [0]
        count = checkpoint._save_engine
        write = storage.write_torch

        def counted(engine: object, partial: Path) -> str | None:
            saves[0] += 1
            return count(engine, partial)  # type: ignore[arg-type]

        def full(value: object, path: str) -> None:
            if saves[0] == plan["save"]:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            write(value, path)

        checkpoint._save_engine = counted
        storage.write_torch = full
    from msvl.training.cli import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
