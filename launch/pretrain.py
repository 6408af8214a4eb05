"""Train on the cluster: `python -m launch.pretrain [CONFIG] [key.path=value ...]`, what slurm/pretrain.sh types."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.attempt import TrainingJob
from launch.cluster import Cluster, read_cluster
from launch.command import add_cluster_options, cluster_from, run_command, say, tell_overrides_from_config
from launch.evaluate import submit_cells
from launch.job import ClusterJob, Executor, Resources, build_executor, submit, test_only
from launch.plan import EvaluationPlan, plan_cells
from launch.snapshot import code_hash, take_snapshot
from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.config.save import save_config
from msvl.environment import LaunchedRank
from msvl.training.config import PretrainConfig
from msvl.training.hub import default_cache, missing_names
from msvl.training.prepare import prepare
from msvl.training.run_folder import RunFolder


@dataclass(frozen=True)
class Submission:
    """A training job that was found to be right, and how to submit it."""

    run: Path
    job: TrainingJob
    executor: Executor


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.pretrain",
        description="Train on the cluster that slurm/cluster.env describes. The run goes on by itself after time limits, "
        "preemption and dead nodes.",
        epilog="Example: python -m launch.pretrain configs/pretrain/mimic_cxr.yaml train.steps=20000 --nodes 4",
    )
    parser.add_argument("config", nargs="?", help="YAML file (default: CONFIG of slurm/cluster.env)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="change single values of the configuration"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that was begun")
    parser.add_argument("--nodes", type=int, help="nodes (default: NODES of slurm/cluster.env)")
    parser.add_argument("--time", help="time limit of one job (default: TIME of slurm/cluster.env)")
    parser.add_argument(
        "--evaluate", metavar="PLAN", help="judge the run when it is finished: configs/evaluate/NAME.yaml"
    )
    add_cluster_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Submit; return the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)
    return run_command(lambda: launch(arguments), debug=arguments.debug)


def launch(arguments: argparse.Namespace) -> int:
    """Check, then submit, print, or train here."""
    tell_overrides_from_config(arguments)
    if arguments.local:
        return train_here(arguments)
    cluster = cluster_from(arguments, nodes=arguments.nodes, time=arguments.time)
    config = arguments.config or cluster.config
    prepared = prepare_submission(
        config, arguments.overrides, cluster, resume=arguments.resume, dry_run=arguments.dry_run
    )
    if arguments.dry_run:
        sys.stdout.write(prepared.executor.script())
        return 0
    if arguments.test_only:
        sys.stdout.write(test_only(prepared.executor.script()) + "\n")
        return 0
    plan = load_config(arguments.evaluate, [], EvaluationPlan) if arguments.evaluate else None
    job = submit(prepared.executor, [prepared.job])[0]
    describe(job, prepared)
    if plan:
        _, table = submit_cells(prepared.run, plan_cells(plan), plan, cluster, after=job.job_id)
        say(f"  table    {prepared.run / 'evaluation' / 'table.md'}, by job {table.job_id}")
    sys.stdout.write(f"{job.job_id}\n")
    return 0


def prepare_submission(
    config: str, overrides: Sequence[str], cluster: Cluster, *, resume: bool, dry_run: bool = False
) -> Submission:
    """Check configuration, run folder and data here and now; freeze code and configuration beside the run.

    Raises the MsvlError that names what is wrong.
    """
    checked: PretrainConfig
    if dry_run:
        checked = load_config(config, overrides, PretrainConfig)
    else:
        alone = LaunchedRank(0, 0, world_size=cluster.world_size, local_world_size=cluster.ranks)
        checked = prepare(config, overrides, resume=resume, rank=alone, ask_hub=False).config
        check_hub(checked, cluster)
    run = (Path(checked.run.folder) / checked.run.name).absolute()
    frozen, code = run / "slurm" / "config.yaml", Path.cwd()
    if not dry_run:
        RunFolder(run).create()
        frozen.parent.mkdir(exist_ok=True)
        code = take_snapshot(Path.cwd(), run / "code")
        save_config(checked, frozen)
    job = TrainingJob(
        run=str(run),
        config=str(frozen),
        code=str(code),
        code_hash=code_hash(code),
        steps=checked.train.steps,
        cluster=cluster,
    )
    resources = training_resources(f"msvl-{checked.run.name}", cluster)
    return Submission(run, job, build_executor(run / "slurm", code, cluster, resources, dry_run=dry_run))


def check_hub(config: PretrainConfig, cluster: Cluster) -> None:
    """Raise ConfigError when the job, which has no internet, would not find the weights that its configuration names."""
    cache = Path(cluster.hub_cache) if cluster.hub_cache else default_cache()
    for name, key in missing_names(config, cache).items():
        raise ConfigError(f"{key} '{name}' is not in {cache}: type `msvl fetch CONFIG --cache {cache}` here first")
    if config.zero.offload == "cpu":
        say(
            "zero.offload=cpu: DeepSpeed compiles its CPU Adam on the nodes, which need g++ (and nvcc with GPUs); pre-flight looks"
        )


def training_resources(name: str, cluster: Cluster, *, parallel: int = 1) -> Resources:
    """Return what a training job asks for."""
    return Resources(
        name=name, nodes=cluster.nodes, gpus_per_node=cluster.gpus_per_node, cpus_per_node=cluster.cpus_per_node,
        memory_per_node=cluster.memory_per_node, time=cluster.time, parallel=parallel,
    )  # fmt: skip


def describe(job: ClusterJob, prepared: Submission) -> None:
    """Say what was submitted, where to look, and how to stop."""
    cluster = prepared.job.cluster
    say(
        f"submitted job {job.job_id}: {cluster.nodes} nodes x {cluster.ranks} ranks, {prepared.job.steps:,} steps\n"
        f"  run      {prepared.run}\n"
        f"  look     tail -f {job.paths.stdout}; squeue -j {job.job_id}\n"
        f"  stop     scancel {job.job_id}; go on with: python -m launch.pretrain {prepared.job.config} --resume\n"
        f"  then     sbatch slurm/evaluate.sh {prepared.run}"
    )


def train_here(arguments: argparse.Namespace) -> int:
    """Train on this machine in the foreground, by the command that `msvl train` types."""
    from msvl.training import launch as here

    config = arguments.config or read_cluster(Path.cwd()).config
    ranks = here.default_ranks()
    alone = LaunchedRank(0, 0, world_size=ranks, local_world_size=ranks)
    prepare(config, arguments.overrides, resume=arguments.resume, rank=alone)
    line = here.command(config, arguments.overrides, ranks=ranks, resume=arguments.resume)
    if arguments.dry_run:
        sys.stdout.write(" ".join(line) + "\n")
        return 0
    return here.launch(line)


if __name__ == "__main__":
    sys.exit(main())
