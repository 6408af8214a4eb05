"""Pack a large data set as an array job: `python -m launch.pack --parts 16 SOURCE ... --out OUT`, then the parts are joined."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.cluster import Cluster
from launch.command import add_cluster_options, answer, cluster_from, is_only_asked, run_command, say
from launch.command_job import CommandJob
from launch.job import Executor, Resources, build_executor, submit
from launch.snapshot import snapshot_folder, take_snapshot
from msvl.config.errors import ConfigError


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; what it does not know is for `msvl data pack`."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.pack",
        usage="%(prog)s --parts N [options] SOURCE [options of `msvl data pack SOURCE`] --out OUT",
        allow_abbrev=False,
        description="Pack a data set in parts, one job per part, and join them into OUT: the very bytes that one `msvl data "
        "pack` gives. Typed again, it goes on with the parts that are missing.",
        epilog="Example: python -m launch.pack --parts 16 table --images IMAGES --reports reports.csv --out shards/mine",
    )
    parser.add_argument("--parts", type=int, required=True, help="parts, each a job on one node")
    parser.add_argument("--parallel", type=int, default=16, help="parts that are packed at once (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=int, default=720, help="time limit of a part and of their merging (default: %(default)s)"
    )
    parser.add_argument("--cpus", type=int, default=8, help="cores of a part (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    add_cluster_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Submit; return the exit code."""
    arguments, words = build_parser().parse_known_args(argv)
    return run_command(lambda: launch(arguments, words), debug=arguments.debug)


def launch(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Submit parts and merging, print the script, or pack here."""
    if not words or words[0].startswith("-"):
        raise ConfigError("name the source behind launch.pack's own options: `msvl data pack --help` lists them")
    if arguments.parts < 1:
        raise ConfigError(f"--parts {arguments.parts}: at least 1 is needed")
    out = arguments.out.absolute()
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it or choose another --out")
    work = out.with_name(f"{out.name}.parts")
    if arguments.local:
        return pack_here(arguments, words, out, work)
    cluster = cluster_from(arguments)
    if is_only_asked(arguments):
        code = snapshot_folder(Path.cwd(), work / "code")
        return answer(arguments, _executor(arguments, cluster, code, work).script(arguments.parts))
    code = take_snapshot(Path.cwd(), work / "code")
    parts = submit(_executor(arguments, cluster, code, work), part_jobs(arguments, words, code, work, cluster))
    array = parts[0].job_id.split("_")[0]
    behind = Resources(
        name="msvl-merge",
        time=str(arguments.minutes),
        cpus_per_node=2,
        dependency=f"afterok:{array}",
    )
    merge = submit(
        build_executor(work / "slurm", code, cluster, behind), [merge_job(arguments, out, work, code, cluster)]
    )[0]
    say(
        f"submitted {len(parts)} parts as job {array}, their merging into {out} as job {merge.job_id}\n"
        f"  look     squeue -j {array},{merge.job_id}; less {work}/part-1.txt\n"
        f"  then     remove {work}"
    )
    sys.stdout.write(f"{merge.job_id}\n")
    return 0


def part_jobs(
    arguments: argparse.Namespace, words: Sequence[str], code: Path, work: Path, cluster: Cluster | None
) -> list[CommandJob]:
    """Return the job of every part. A part that is there already ends at once."""
    jobs = []
    for number in range(1, arguments.parts + 1):
        out = work / f"part-{number}"
        options = ["--out", str(out), "--part", f"{number}/{arguments.parts}", "--workers", str(arguments.cpus)]
        jobs.append(
            CommandJob(
                words=("data", "pack", *words, *options), log=str(work / f"part-{number}.txt"), code=str(code),
                cluster=cluster, cpus=arguments.cpus, folders=(str(work),),
            )
        )  # fmt: skip
    return jobs


def merge_job(arguments: argparse.Namespace, out: Path, work: Path, code: Path, cluster: Cluster | None) -> CommandJob:
    """Return the job that joins the parts."""
    parts = [str(work / f"part-{number}") for number in range(1, arguments.parts + 1)]
    return CommandJob(
        words=("data", "merge", str(out), *parts), log=str(work / "merge.txt"), code=str(code), cluster=cluster, cpus=2,
        folders=(str(out.parent),),
    )  # fmt: skip


def pack_here(arguments: argparse.Namespace, words: Sequence[str], out: Path, work: Path) -> int:
    """Pack part after part on this machine, and join them."""
    for job in [
        *part_jobs(arguments, words, Path.cwd(), work, None),
        merge_job(arguments, out, work, Path.cwd(), None),
    ]:
        job()
    say(f"packed {out}; remove {work}")
    return 0


def _executor(arguments: argparse.Namespace, cluster: Cluster, code: Path, work: Path) -> Executor:
    resources = Resources(
        name="msvl-pack", cpus_per_node=arguments.cpus, time=str(arguments.minutes), parallel=arguments.parallel
    )
    return build_executor(work / "slurm", code, cluster, resources)


if __name__ == "__main__":
    sys.exit(main())
