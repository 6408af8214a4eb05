"""Prove msvl on one's own machines: `python -m launch.accept`, what slurm/accept.sh and `make accept` type: checks, then a page."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch.acceptance.configs import FORMS
from launch.acceptance.page import DATA, PAGE
from launch.acceptance.places import ThisMachine
from launch.acceptance.running import AcceptJob, Wish, accept
from launch.attempt import TrainingJob
from launch.cluster import read_cluster
from launch.command import (
    add_cluster_options,
    answer,
    cluster_from,
    is_only_asked,
    run_command,
    say,
    tell_overrides_from_config,
)
from launch.job import submit
from launch.pretrain import training_executor
from launch.snapshot import code_hash, snapshot_folder, take_snapshot
from msvl.config.errors import ConfigError
from msvl.config.exit_codes import ANSWER_IS_NO
from msvl.config.load import load_config
from msvl.config.save import save_config
from msvl.environment import accelerators
from msvl.training.acceptance.rank import MISTAKES
from msvl.training.config import PretrainConfig
from msvl.training.prepare import check_ranks

SHIPPED = Path("configs") / "pretrain"
WITHOUT_GPUS = SHIPPED / "quickstart.yaml"
"""What is measured where there are no GPUs: a step of the paper's model takes twenty minutes there."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.accept",
        description="Prove msvl on your own machines in about ten minutes, on simulated radiographs: ranks see each other and how "
        "fast; losses and gradients on all ranks are those of one process and of float64; a killed run goes on as if nothing had "
        "been; pace and memory of the shipped configuration. One page that you can publish.",
        epilog="Example: python -m launch.accept configs/pretrain/mimic_cxr.yaml train.micro_batch=64 --nodes 4",
    )
    parser.add_argument(
        "config", nargs="?", help="YAML file (default: CONFIG of cluster.env; without GPUs the quickstart's)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="change single values of the configuration"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to make, on a disk that all nodes share (default: runs/accept-DATE-TIME)",
    )
    parser.add_argument("--short", action="store_true", help="the short form: that it runs, not how fast")
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="after which no further check begins (default: %(default)g)"
    )
    parser.add_argument("--ranks", type=int, help="with --local: processes (default: one per GPU; without GPUs 2)")
    parser.add_argument("--nodes", type=int, help="nodes (default: NODES of slurm/cluster.env)")
    parser.add_argument("--time", default="60", help="time limit of the job (default: %(default)s minutes)")
    parser.add_argument("--break", dest="broken", choices=MISTAKES, help="make a popular mistake, and see it found")
    add_cluster_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Accept; return 0 when everything that was run passed, 1 when something did not, 2 when the user can fix it."""
    arguments = build_parser().parse_intermixed_args(argv)
    return run_command(lambda: launch(arguments), debug=arguments.debug)


def launch(arguments: argparse.Namespace) -> int:
    """Submit, print, or accept this machine."""
    tell_overrides_from_config(arguments)
    if arguments.local:
        return accept_here(arguments)
    cluster = cluster_from(arguments, nodes=arguments.nodes, time=arguments.time)
    config = choose_config(arguments.config, cluster.gpus_per_node, cluster.config)
    checked = check(config, arguments.overrides, cluster.world_size)
    folder = new_folder(arguments.out)
    if is_only_asked(arguments):
        return answer(
            arguments, training_executor(folder, snapshot_folder(Path.cwd(), folder / "code"), cluster).script()
        )
    wish = make_wish(arguments, folder, config, checked, cluster.hub_cache)
    code = take_snapshot(Path.cwd(), folder / "code")
    training = TrainingJob(str(folder), wish.config, str(code), code_hash(code), 0, cluster)
    job = submit(training_executor(folder, code, cluster), [AcceptJob(wish, training)])[0]
    say(
        f"submitted job {job.job_id}: acceptance of {cluster.nodes} nodes x {cluster.ranks} ranks\n"
        f"  look     tail -f {job.paths.stdout}\n"
        f"  page     {folder / PAGE} and {DATA}; the job fails when a check does"
    )
    sys.stdout.write(f"{job.job_id}\n")
    return 0


def accept_here(arguments: argparse.Namespace) -> int:
    """Accept this machine in the foreground."""
    from msvl.training.launch import default_ranks

    ranks = arguments.ranks or default_ranks()
    gpus = accelerators()
    default = (
        read_cluster(Path.cwd(), file=arguments.cluster).config
        if arguments.cluster
        else str(SHIPPED / "mimic_cxr.yaml")
    )
    config = choose_config(arguments.config, gpus, default)
    checked = check(config, arguments.overrides, ranks)
    folder = new_folder(arguments.out)
    wish = make_wish(arguments, folder, config, checked, None)
    place = ThisMachine(ranks_per_node=ranks, gpus=gpus, code=Path.cwd())
    good, results = accept(wish, place)
    failed = [result for result in results if result.verdict == "failed"]
    for result in failed:
        say(f"FAILED  {result.title}: {result.says}\n        what its ranks said: {folder / 'log'}")
    say(f"{'accepted' if good else 'NOT accepted'}\n  page     {folder / PAGE}\n  data     {folder / DATA}")
    return 0 if good else ANSWER_IS_NO


def choose_config(named: str | None, gpus: int, default: str) -> str:
    """Return the configuration to measure: the one that is named, or the default, which needs GPUs."""
    if named:
        return named
    return default if gpus else str(WITHOUT_GPUS)


def check(config: str, overrides: Sequence[str], world: int) -> PretrainConfig:
    """Return the configuration. Raises ConfigError, and ClusterError when it does not fit so many ranks, before a job waits."""
    checked = load_config(config, overrides, PretrainConfig)
    check_ranks(checked, world)
    return checked


def shown_name(config: str) -> str:
    """Return how the page calls a configuration: shipped ones by their name, others without any."""
    path = Path(config)
    return path.stem if path.resolve().parent == SHIPPED.resolve() else "of one's own"


def new_folder(out: Path | None) -> Path:
    """Return the folder to make. Raises ConfigError when it is there."""
    folder = (out or Path("runs") / f"accept-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    if folder.exists():
        raise ConfigError(f"--out {folder} is there already: name another folder, or remove it")
    return folder


def make_wish(
    arguments: argparse.Namespace, folder: Path, config: str, checked: PretrainConfig, cache: str | None
) -> Wish:
    """Make the folder and freeze what is asked for in it."""
    folder.mkdir(parents=True)
    frozen = folder / "shipped.yaml"
    save_config(checked, frozen)
    shown = shown_name(config) + (" with changes" if arguments.overrides else "")
    form = "short" if arguments.short else "full"
    assert form in FORMS
    return Wish(str(folder), str(frozen), shown, form, arguments.minutes, arguments.broken, cache)


if __name__ == "__main__":
    sys.exit(main())
