"""The training command of one rank: everything that can be checked is checked before torch and the process group."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msvl.config.errors import MsvlError, SupersededError
from msvl.config.exit_codes import EXIT_FILE
from msvl.environment import LaunchedRank, prepare_environment, prepare_rank
from msvl.training.prepare import prepare

DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "quickstart.yaml"
SPEAKER_FIRST_SECONDS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every way to start training shares."""
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="change single values of the configuration"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's newest checkpoint, if there is one")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `msvl/train.py`."""
    parser = argparse.ArgumentParser(
        prog="msvl/train.py",
        description="Pretrain on radiograph-report pairs.",
        epilog="Example: accelerate launch msvl/train.py --config configs/pretrain/quickstart.yaml train.steps=100",
    )
    parser.add_argument(
        "--config", default=str(DEFAULT_CONFIG), metavar="FILE", help="YAML (default: the quickstart's)"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train as one rank; return the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)
    rank: LaunchedRank | None = None
    try:
        prepare_environment()
        rank = prepare_rank()
        prepared = prepare(arguments.config, arguments.overrides, resume=arguments.resume, rank=rank)
        from msvl.training.run import run_attempt  # imports torch: only after the configuration is known to be right

        return run_attempt(prepared)
    except MsvlError as error:
        if arguments.debug:
            raise
        speaks = _speaks(rank, error)
        if not speaks and not error.agreed:
            # A launcher ends all ranks when the first one leaves, so the rank that prints goes first. Where nobody ends
            # this rank meanwhile, it alone has found the mistake.
            time.sleep(SPEAKER_FIRST_SECONDS)
            speaks = True
        if speaks:
            sys.stderr.write(f"msvl: {error}\n")
            sys.stderr.flush()
        code = _leave(error.exit_code, agreed=error.agreed)
        if isinstance(error, SupersededError):
            os._exit(code)  # at once: nothing that waits to be written or sent is this attempt's any more
        return code


def _speaks(rank: LaunchedRank | None, error: MsvlError) -> bool:
    """Return whether this rank prints the error: once per machine for what all find, the failing rank for its own."""
    if rank is None or rank.local_rank == 0:
        return True
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized() and not error.agreed


def _leave(code: int, *, agreed: bool) -> int:
    """Return the exit code, by way of a file where `msvl train` waits behind a launcher.

    A launcher turns every code into 1 and adds a traceback of its own; when all ranks agree, they leave quietly instead.
    """
    path = os.environ.get(EXIT_FILE)
    if not path:
        return code
    Path(path).write_text(str(code), encoding="utf-8")
    return 0 if agreed else code
