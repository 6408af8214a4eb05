"""Sweeps: `python -m launch.sweep start|status configs/sweep/NAME.yaml`, what slurm/sweep.sh types: a run per cell, then a table."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.attempt import TrainingJob
from launch.cluster import Cluster
from launch.command import add_cluster_options, answer, cluster_from, is_only_asked, run_command, say
from launch.evaluate import judge_here, submit_cells
from launch.job import ClusterJob, Executor, Resources, build_executor, submit
from launch.pretrain import prepare_job, training_executor
from launch.restarts import newest_step
from launch.snapshot import snapshot_folder, take_snapshot
from launch.sweep_config import SweepCell
from launch.sweep_state import SummaryJob, Sweep, known_jobs, read_results, read_sweep
from launch.sweep_table import shown_figures, sweep_table, write_summary
from msvl.evaluation.tables import as_text


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.sweep",
        description="Train and judge a run per cell of a sweep, then make a table and a plot. Typed again, it goes on with the "
        "cells that are neither finished nor under way.",
        epilog="Example: python -m launch.sweep start configs/sweep/ablation.yaml",
    )
    parser.add_argument("action", choices=("start", "status"), help="submit what is missing, or print what there is")
    parser.add_argument("sweep", metavar="FILE", help="configs/sweep/NAME.yaml")
    parser.add_argument("--nodes", type=int, help="nodes of each run (default: NODES of slurm/cluster.env)")
    parser.add_argument(
        "--time", help="time limit of one job: minutes, HH:MM:SS or D-HH:MM:SS (default: TIME of slurm/cluster.env)"
    )
    add_cluster_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Submit or print; return the exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: launch(arguments), debug=arguments.debug)


def launch(arguments: argparse.Namespace) -> int:
    """Submit what is missing, print the state, or run here."""
    sweep = read_sweep(arguments.sweep)
    if arguments.action == "status":
        return status(sweep, ask_slurm=not arguments.local)
    if arguments.local:
        return run_here(sweep)
    cluster = cluster_from(arguments, nodes=arguments.nodes, time=arguments.time)
    cluster = cluster.model_copy(update={"exports": cluster.exports | {"WANDB_RUN_GROUP": sweep.config.name}})
    results = read_results(sweep, ask_slurm=not arguments.dry_run)
    todo = [result.cell for result in results if result.state in ("failed", "not started")]
    if is_only_asked(arguments):
        if not todo:
            say(f"all {len(sweep.cells)} runs are finished or under way: nothing would be submitted")
            return 0
        code = snapshot_folder(Path.cwd(), sweep.folder / "code")
        return answer(arguments, _executor(sweep, code, cluster).script(len(todo)))
    jobs = train_cells(sweep, todo, cluster)
    return describe(sweep, arguments.sweep, jobs, summary_after(sweep, jobs, cluster))


def train_cells(sweep: Sweep, todo: Sequence[SweepCell], cluster: Cluster) -> dict[str, ClusterJob]:
    """Submit the runs of `todo` as one throttled array; return cell -> job."""
    if not todo:
        return {}
    jobs: list[TrainingJob] = []
    for cell in todo:
        words = cell.overrides(sweep.config, str(sweep.folder))
        jobs.append(prepare_job(sweep.config.base, words, cluster, resume=True))
    code = take_snapshot(Path.cwd(), sweep.folder / "code")
    submitted = submit(_executor(sweep, code, cluster), jobs)
    found = {cell.name: job for cell, job in zip(todo, submitted, strict=True)}
    known = known_jobs(sweep) | {name: job.job_id for name, job in found.items()}
    sweep.jobs_file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return found


def summary_after(sweep: Sweep, jobs: dict[str, ClusterJob], cluster: Cluster) -> ClusterJob:
    """Submit the judgement of every run behind its training, and the summary behind them all."""
    behind = [job.job_id for job in jobs.values()]
    if sweep.plan:
        for cell in sweep.cells:
            after = jobs.get(cell.name)
            run = sweep.folder / cell.name
            if after is None and newest_step(run) < sweep.runs[cell.name].train.steps:
                continue  # still under way since an earlier start, whose own judgement waits for it
            judged, table = submit_cells(
                run, sweep.judgement, sweep.plan, cluster, after=after.job_id if after else None
            )
            behind.append(table.job_id)
    code = take_snapshot(Path.cwd(), sweep.folder / "code")
    resources = Resources(
        name=f"msvl-summary-{sweep.config.name}",
        time="10",
        dependency=f"afterany:{':'.join(behind)}" if behind else None,
    )
    return submit(build_executor(sweep.folder / "slurm", code, cluster, resources), [SummaryJob(sweep)])[0]


def status(sweep: Sweep, *, ask_slurm: bool) -> int:
    """Print and write the summary; return 1 when a run failed."""
    results = read_results(sweep, ask_slurm=ask_slurm)
    sys.stdout.write(as_text(sweep_table(results, shown_figures(results))))
    for result in results:
        if result.state == "failed":
            say(f"failed: {result.cell.name}: {result.reason}")
    if sweep.folder.is_dir():
        say(f"written: {write_summary(sweep.folder, sweep.config.name, results)}")
    return int(any(result.state == "failed" for result in results))


def run_here(sweep: Sweep) -> int:
    """Train and judge cell after cell on this machine."""
    from msvl.training import launch as here

    os.environ["WANDB_RUN_GROUP"] = sweep.config.name
    for cell in sweep.cells:
        run = sweep.folder / cell.name
        if newest_step(run) < sweep.runs[cell.name].train.steps:
            words = cell.overrides(sweep.config, str(sweep.folder))
            code = here.launch(here.command(sweep.config.base, words, ranks=here.default_ranks(), resume=True))
            if code:
                say(f"cell {cell.name} ended with exit code {code}")
                continue
        if sweep.plan:
            judge_here(run, sweep.judgement)
    return status(sweep, ask_slurm=False)


def describe(sweep: Sweep, file: str, jobs: dict[str, ClusterJob], summary: ClusterJob) -> int:
    """Say what was submitted and where to look."""
    array = f" as job {next(iter(jobs.values())).job_id.split('_')[0]}" if jobs else ""
    say(
        f"submitted {len(jobs)} of {len(sweep.cells)} runs{array}, the summary as job {summary.job_id}\n"
        f"  look     python -m launch.sweep status {file}\n"
        f"  table    {sweep.folder / 'summary.md'}"
    )
    sys.stdout.write(f"{summary.job_id}\n")
    return 0


def _executor(sweep: Sweep, code: Path, cluster: Cluster) -> Executor:
    return training_executor(sweep.folder, code, cluster, parallel=sweep.config.parallel)


if __name__ == "__main__":
    sys.exit(main())
