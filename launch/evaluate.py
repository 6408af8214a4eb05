"""Judge a run on the cluster: `python -m launch.evaluate RUN`, what slurm/evaluate.sh types: a job per cell, then a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.cluster import Cluster
from launch.command import add_cluster_options, answer, cluster_from, is_only_asked, run_command, say
from launch.command_job import CommandJob
from launch.evaluation_plan import Cell, EvaluationPlan, plan_cells
from launch.evaluation_table import (
    TableJob,
    failure_file,
    figures_table,
    log_file,
    read_cells,
    remove_stale,
    result_file,
    write_table,
)
from launch.job import ClusterJob, Executor, Resources, build_executor, submit
from launch.snapshot import snapshot_folder, take_snapshot
from msvl.config.errors import ClusterError, ConfigError
from msvl.config.load import load_config
from msvl.evaluation.tables import as_text

DEFAULT_PLAN = "configs/evaluate/standard.yaml"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.evaluate",
        description="Judge a run: one job per cell of the plan, then a table in RUN/evaluation/table.md. Cells that are done "
        "are not judged again; failed ones are.",
        epilog="Example: python -m launch.evaluate runs/mimic_cxr --plan configs/evaluate/standard.yaml",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--plan", default=DEFAULT_PLAN, metavar="FILE", help="cells to judge (default: %(default)s)")
    parser.add_argument("--only", metavar="TEXT", help="only cells whose name contains this")
    parser.add_argument("--after", metavar="JOB", help="begin when this job has succeeded")
    parser.add_argument("--status", action="store_true", help="print what is done, failed and waiting, and the table")
    add_cluster_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Submit; return the exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: launch(arguments), debug=arguments.debug)


def launch(arguments: argparse.Namespace) -> int:
    """Submit the cells that are not done, print their state, or judge here."""
    run = arguments.run_folder.absolute()
    plan = load_config(arguments.plan, [], EvaluationPlan)
    cells = [cell for cell in plan_cells(plan) if not arguments.only or arguments.only in cell.name]
    if not cells:
        raise ConfigError(f"{arguments.plan} has no cell whose name contains '{arguments.only}'")
    if arguments.status:
        return status(run, cells)
    if not arguments.after and not (run / "checkpoints").is_dir():
        raise ClusterError(f"{run} is no run that was trained; --after JOB waits for one that is being trained")
    if arguments.local:
        return judge_here(run, cells)
    cluster = cluster_from(arguments)
    if is_only_asked(arguments):
        todo = [result for result in read_cells(run, cells) if result.state != "done"]
        if not todo:
            say(f"all {len(cells)} cells are done: nothing would be submitted")
            return 0
        code = snapshot_folder(Path.cwd(), run / "code")
        return answer(arguments, _executor(run, cluster, plan, code, after=arguments.after).script(len(todo)))
    jobs, table = submit_cells(run, cells, plan, cluster, after=arguments.after)
    if not jobs:
        say(f"all {len(cells)} cells are done: {run / 'evaluation' / 'table.md'}")
        return 0
    say(
        f"submitted {len(jobs)} of {len(cells)} cells as job {jobs[0].job_id.split('_')[0]}, and their table as job {table.job_id}\n"
        f"  look     python -m launch.evaluate {run} --plan {arguments.plan} --status\n"
        f"  table    {run / 'evaluation' / 'table.md'}"
    )
    sys.stdout.write(f"{table.job_id}\n")
    return 0


def submit_cells(
    run: Path, cells: Sequence[Cell], plan: EvaluationPlan, cluster: Cluster, *, after: str | None = None
) -> tuple[list[ClusterJob], ClusterJob]:
    """Submit the cells that are not done as an array, and the table behind it.

    Args:
        run: Run folder, which may still be empty with `after`.
        cells: All cells of the table.
        plan: Time limit and throttle.
        cluster: From cluster.env.
        after: Job that must have succeeded first.
    """
    results = read_cells(run, cells)
    todo = [result.cell for result in results if result.state != "done"]
    remove_stale(run, results)
    code = take_snapshot(Path.cwd(), run / "code")
    jobs = []
    if todo:
        executor = _executor(run, cluster, plan, code, after=after)
        jobs = submit(executor, [cell_job(run, cell, code, cluster) for cell in todo])
    behind = f"afterany:{jobs[0].job_id.split('_')[0]}" if jobs else None
    resources = Resources(name=f"msvl-table-{run.name}", time="10", dependency=behind)
    table = submit(build_executor(run / "slurm", code, cluster, resources), [TableJob(str(run), tuple(cells))])[0]
    return jobs, table


def cell_job(run: Path, cell: Cell, code: Path, cluster: Cluster | None) -> CommandJob:
    """Return the job of a cell."""
    return CommandJob(
        words=cell.words(str(run)), log=str(log_file(run, cell)), code=str(code), cluster=cluster,
        cpus=_cpus(cluster) if cluster else 1, folders=(str(run),), done=str(result_file(run, cell)),
        failed=str(failure_file(run, cell)),
    )  # fmt: skip


def judge_here(run: Path, cells: Sequence[Cell]) -> int:
    """Judge the cells that are not done on this machine, one after another, then write the table."""
    results = read_cells(run, cells)
    remove_stale(run, results)
    for result in results:
        if result.state != "done":
            try:
                cell_job(run, result.cell, Path.cwd(), None)()
            except ClusterError as error:
                say(str(error))
    return status(run, cells)


def status(run: Path, cells: Sequence[Cell]) -> int:
    """Print the table; return 1 when a cell failed."""
    results = read_cells(run, cells)
    path = write_table(run, results) if run.is_dir() else None
    sys.stdout.write(as_text(figures_table(results)))
    for result in results:
        if result.state == "failed":
            say(f"failed: {result.cell.name}: {result.reason}; its output: {log_file(run, result.cell)}")
    counts = [f"{sum(result.state == state for result in results)} {state}" for state in ("done", "failed", "waiting")]
    say(f"{', '.join(counts)} of {len(results)} cells" + (f": {path}" if path else ""))
    return int(any(result.state == "failed" for result in results))


def _executor(run: Path, cluster: Cluster, plan: EvaluationPlan, code: Path, *, after: str | None) -> Executor:
    resources = Resources(
        name=f"msvl-judge-{run.name}", gpus_per_node=min(1, cluster.gpus_per_node), cpus_per_node=_cpus(cluster),
        time=str(plan.minutes), dependency=f"afterok:{after}" if after else None, parallel=plan.parallel,
    )  # fmt: skip
    return build_executor(run / "slurm", code, cluster, resources)


def _cpus(cluster: Cluster) -> int:
    """Return a fair share of a node's cores for one GPU."""
    return max(1, cluster.cpus_per_node // max(1, cluster.gpus_per_node))


if __name__ == "__main__":
    sys.exit(main())
