"""Run training as one process whose disk takes a checkpoint only after the run has logged step SLOW_UNTIL, a minute at most."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])


def logged(metrics: Path, step: int) -> bool:
    """Return whether a run has logged a step."""
    return metrics.is_file() and f'"step": {step},' in metrics.read_text()


def main() -> int:
    """Let the first file of the first save wait, and train."""
    from msvl.environment import prepare_environment

    prepare_environment()
    from msvl.training import storage

    write, step, waited = storage.write_torch, int(os.environ["SLOW_UNTIL"]), []

    def slow(value: object, path: str) -> str:
        metrics = Path(path).parents[3] / "metrics.jsonl"  # RUN/checkpoints/.partial-.../engine/FILE
        end = time.monotonic() + 60
        while not waited and not logged(metrics, step):
            if time.monotonic() > end:
                raise OSError(f"training did not reach step {step} while a checkpoint was being written")
            time.sleep(0.02)
        waited.append(path)
        return write(value, path)

    storage.write_torch = slow
    from msvl.training.cli import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
