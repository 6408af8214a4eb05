"""`msvl train CONFIG`: print the `accelerate launch` line for this machine, and start it."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msvl.config.errors import ClusterError, ConfigError
from msvl.config.exit_codes import EXIT_FILE
from msvl.environment import LaunchedRank, accelerators, die_with_parent
from msvl.training.cli import DEFAULT_CONFIG, add_arguments
from msvl.training.prepare import prepare

TRAIN = Path(__file__).resolve().parents[1] / "train.py"


def add_parsers(groups: Any) -> None:
    """Add `msvl train`."""
    parser = groups.add_parser(
        "train",
        help="pretrain on radiograph-report pairs",
        description="Print the accelerate launch line for this machine and start it.",
        epilog="Example: msvl train configs/pretrain/quickstart.yaml train.steps=100",
    )
    parser.add_argument("config", nargs="?", help="YAML file, see configs/pretrain/")
    parser.add_argument("--ranks", type=int, help="processes on this machine (default: one per GPU; without GPUs 2)")
    parser.add_argument("--dry-run", action="store_true", help="print the line and stop")
    add_arguments(parser)
    parser.set_defaults(run=run)


def default_ranks() -> int:
    """Return one rank per GPU; on a machine without, 2 (1 on a single core)."""
    return accelerators() or min(2, os.cpu_count() or 1)


def command(config: str, overrides: Sequence[str], *, ranks: int, resume: bool, debug: bool = False) -> list[str]:
    """Return the launch line: everything that accelerate would otherwise ask for or guess is said."""
    launcher = ["accelerate", "launch", "--use_deepspeed", "--num_machines", "1", "--num_processes", str(ranks)]
    # Port 0: accelerate takes a free one, so that two runs on one machine do not meet.
    launcher += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    script = [os.path.relpath(TRAIN) if TRAIN.is_relative_to(Path.cwd()) else str(TRAIN), "--config", config]
    flags = ["--resume"] * resume + ["--debug"] * debug
    return [*launcher, *script, *flags, *overrides]


def run(arguments: argparse.Namespace) -> int:
    """Check what can be checked in one process, then launch; return the ranks' own exit code."""
    if arguments.config is None:
        shipped = ", ".join(os.path.relpath(path) for path in sorted(DEFAULT_CONFIG.parent.glob("*.yaml")))
        raise ConfigError(f"name the configuration to train: msvl train CONFIG; these ship: {shipped}")
    ranks = default_ranks() if arguments.ranks is None else arguments.ranks
    if ranks < 1:
        raise ClusterError(f"--ranks {ranks}: at least 1 is needed")
    alone = LaunchedRank(rank=0, local_rank=0, world_size=ranks, local_world_size=ranks)
    prepare(arguments.config, arguments.overrides, resume=arguments.resume, rank=alone)
    line = command(arguments.config, arguments.overrides, ranks=ranks, resume=arguments.resume, debug=arguments.debug)
    sys.stderr.write(f"$ {shlex.join(line)}\n")
    sys.stderr.flush()
    if arguments.dry_run:
        return 0
    return launch(line)


def launch(line: Sequence[str]) -> int:
    """Run a launch line; return the code that the ranks meant, which a launcher replaces by its own."""
    with tempfile.TemporaryDirectory(prefix="msvl-") as scratch:
        exit_file = Path(scratch) / "exit-code"
        child = subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", *line[2:]],
            env=os.environ | {EXIT_FILE: str(exit_file)},
            preexec_fn=die_with_parent,  # noqa: PLW1509 - single-threaded here, and no orphan may stay
        )
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # The terminal sent it to the ranks too: they finish their step and save.
            code = child.wait()
        return int(exit_file.read_text(encoding="utf-8")) if exit_file.is_file() else code
