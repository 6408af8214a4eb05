"""What the launchers' command lines share."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from launch.cluster import Cluster, read_cluster
from launch.job import ask_slurm
from msvl.config.errors import ClusterError, ConfigError, MsvlError
from msvl.environment import prepare_environment


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add what every launcher takes."""
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="another file than slurm/cluster.env")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--local", action="store_true", help="do the work on this machine, in the foreground")
    how.add_argument("--dry-run", action="store_true", help="print the exact sbatch script and stop")
    how.add_argument("--test-only", action="store_true", help="ask Slurm whether it would take the job, and stop")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def cluster_from(arguments: argparse.Namespace, **overrides: object) -> Cluster:
    """Read cluster.env of the checkout that this is typed in. Raises ConfigError elsewhere, ClusterError without Slurm."""
    root = Path.cwd()
    if not (root / "launch").is_dir() or not (root / "msvl").is_dir():
        raise ConfigError(f"{root} is not msvl's checkout: change to it first")
    cluster = read_cluster(root, file=arguments.cluster, **overrides)
    if not arguments.dry_run and not shutil.which("sbatch"):
        raise ClusterError(
            "there is no Slurm here: type this on a login node of the cluster, or add --local or --dry-run"
        )
    return cluster


def is_only_asked(arguments: argparse.Namespace) -> bool:
    """Return whether nothing is to be submitted: --dry-run or --test-only."""
    return arguments.dry_run or arguments.test_only


def answer(arguments: argparse.Namespace, script: str) -> int:
    """Print the script that would be submitted, or with --test-only what Slurm says of it. Raises ClusterError when it refuses."""
    sys.stdout.write(ask_slurm(script) + "\n" if arguments.test_only else script)
    return 0


def tell_overrides_from_config(arguments: argparse.Namespace) -> None:
    """Take a first word such as `train.steps=100` for an override: the configuration was left out."""
    if arguments.config and "=" in arguments.config:
        arguments.overrides, arguments.config = [arguments.config, *arguments.overrides], None


def run_command(action: Callable[[], int], *, debug: bool) -> int:
    """Run a launcher: 0 done, 1 the answer is no, 2 the user can fix it."""
    try:
        prepare_environment()
        return action()
    except MsvlError as error:
        if debug:
            raise
        sys.stderr.write(f"msvl: {error}\n")
        return error.exit_code


def say(text: str) -> None:
    """Tell a person; machines read standard output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
