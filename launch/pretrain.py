"""Train on the cluster: `python -m launch.pretrain [CONFIG] [key.path=value ...]`, what slurm/pretrain.sh types."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.attempt import TrainingJob
from launch.cluster import Cluster, read_cluster
from launch.command import (
    add_cluster_options,
    answer,
    cluster_from,
    is_only_asked,
    run_command,
    say,
    tell_overrides_from_config,
)
from launch.evaluate import judge_here, submit_cells
from launch.evaluation_plan import EvaluationPlan, plan_cells
from launch.job import ClusterJob, Executor, Resources, build_executor, submit
from launch.restarts import newest_step
from launch.snapshot import code_hash, snapshot_folder, take_snapshot
from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.config.save import save_config
from msvl.environment import LaunchedRank
from msvl.training.config import PretrainConfig
from msvl.training.hub import default_cache, missing_names
from msvl.training.prepare import check_ranks, prepare
from msvl.training.run_folder import RunFolder


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
    parser.add_argument(
        "--time", help="time limit of one job: minutes, HH:MM:SS or D-HH:MM:SS (default: TIME of slurm/cluster.env)"
    )
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
    plan = load_config(arguments.evaluate, [], EvaluationPlan) if arguments.evaluate else None
    if arguments.local:
        return train_here(arguments, plan)
    cluster = cluster_from(arguments, nodes=arguments.nodes, time=arguments.time)
    config = arguments.config or cluster.config
    if is_only_asked(arguments):
        checked = load_config(config, arguments.overrides, PretrainConfig)
        check_ranks(checked, cluster.world_size)
        run = run_folder(checked)
        code = snapshot_folder(Path.cwd(), run / "code")
        return answer(arguments, training_executor(run, code, cluster).script())
    training = prepare_job(config, arguments.overrides, cluster, resume=arguments.resume)
    run = Path(training.run)
    job = submit(training_executor(run, Path(training.code), cluster), [training])[0]
    describe(job, training)
    if plan:
        _, table = submit_cells(run, plan_cells(plan), plan, cluster, after=job.job_id)
        say(f"  table    {run / 'evaluation' / 'table.md'}, by job {table.job_id}")
    sys.stdout.write(f"{job.job_id}\n")
    return 0


def run_folder(config: PretrainConfig) -> Path:
    """Return where a configuration's run lies."""
    return (Path(config.run.folder) / config.run.name).absolute()


def prepare_job(config: str, overrides: Sequence[str], cluster: Cluster, *, resume: bool) -> TrainingJob:
    """Check configuration, weights, run folder and data here and now; freeze code and configuration beside the run.

    Raises the MsvlError that names what is wrong.
    """
    alone = LaunchedRank(0, 0, world_size=cluster.world_size, local_world_size=cluster.ranks)
    checked = prepare(config, overrides, resume=resume, rank=alone, ask_hub=False).config
    check_hub(checked, cluster)
    run = run_folder(checked)
    RunFolder(run).create()
    frozen = run / "slurm" / "config.yaml"
    frozen.parent.mkdir(exist_ok=True)
    code = take_snapshot(Path.cwd(), run / "code")
    save_config(checked, frozen)
    return TrainingJob(
        run=str(run), config=str(frozen), code=str(code), code_hash=code_hash(code), steps=checked.train.steps, cluster=cluster
    )  # fmt: skip


def check_hub(config: PretrainConfig, cluster: Cluster) -> None:
    """Raise ConfigError when the job, which has no internet, would not find the weights that its configuration names."""
    cache = Path(cluster.hub_cache) if cluster.hub_cache else default_cache()
    for name, key in missing_names(config, cache).items():
        raise ConfigError(f"{key} '{name}' is not in {cache}: type `msvl fetch CONFIG --cache {cache}` here first")
    if config.zero.offload == "cpu":
        say(
            "zero.offload=cpu: DeepSpeed compiles its CPU Adam on the nodes, which need g++ (and nvcc with GPUs); pre-flight looks"
        )


def training_executor(run: Path, code: Path, cluster: Cluster, *, parallel: int = 1) -> Executor:
    """Return what submits trainings, from the snapshot `code`, with scripts and output in run/slurm."""
    resources = Resources(
        name=f"msvl-{run.name}", nodes=cluster.nodes, gpus_per_node=cluster.gpus_per_node,
        cpus_per_node=cluster.cpus_per_node, memory_per_node=cluster.memory_per_node, time=cluster.time, parallel=parallel,
    )  # fmt: skip
    return build_executor(run / "slurm", code, cluster, resources)


def describe(job: ClusterJob, training: TrainingJob) -> None:
    """Say what was submitted, where to look, and how to stop."""
    cluster = training.cluster
    say(
        f"submitted job {job.job_id}: {cluster.nodes} nodes x {cluster.ranks} ranks, {training.steps:,} steps\n"
        f"  run      {training.run}\n"
        f"  look     tail -f {job.paths.stdout}; squeue -j {job.job_id}\n"
        f"  stop     scancel {job.job_id}; go on with: python -m launch.pretrain {training.config} --resume\n"
        f"  then     sbatch slurm/evaluate.sh {training.run}"
    )


def train_here(arguments: argparse.Namespace, plan: EvaluationPlan | None) -> int:
    """Train on this machine in the foreground, by the command that `msvl train` types; then judge, where that was asked for."""
    from msvl.training import launch as here

    config = arguments.config or read_cluster(Path.cwd(), file=arguments.cluster).config
    ranks = here.default_ranks()
    alone = LaunchedRank(0, 0, world_size=ranks, local_world_size=ranks)
    checked = prepare(config, arguments.overrides, resume=arguments.resume, rank=alone).config
    code = here.launch(here.command(config, arguments.overrides, ranks=ranks, resume=arguments.resume))
    run = run_folder(checked)
    if code or not plan or newest_step(run) < checked.train.steps:
        return code
    return judge_here(run, plan_cells(plan))


if __name__ == "__main__":
    sys.exit(main())
