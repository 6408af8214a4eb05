"""All checks in order, each within its limits and all within the whole's; then the page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch import scontrol
from launch.acceptance.checks import CHECKS
from launch.acceptance.configs import FORMS, write_configs
from launch.acceptance.page import Facts, write_page
from launch.acceptance.places import Interrupted, JobNodes, Place, QueueNeeded
from launch.acceptance.results import Result, accepted, store, stored
from launch.acceptance.stand import Check, CheckFailed, NotRun, Stand
from launch.attempt import TrainingJob, go_back_to_the_queue, say
from launch.signals import Signals
from msvl.config.errors import ClusterError, MsvlError
from msvl.config.load import load_config
from msvl.training.config import PretrainConfig
from msvl.training.hub import default_cache

MAX_STARTS = 5
"""An acceptance needs two; a job that starts more often has too short a time limit, or nodes that die."""


@dataclass(frozen=True)
class Wish:
    """What was asked for."""

    folder: str
    """Of this acceptance."""
    config: str
    """Shipped configuration, resolved."""
    shown: str
    """Its name on the page."""
    form: str
    """A name of FORMS."""
    minutes: float
    """After which no further check begins, in one start."""
    broken: str | None = None
    """A mistake to make, to see it found."""
    hub_cache: str | None = None
    """Published weights; None is the user's own."""


def run_checks(stand: Stand, deadline: float, checks: Sequence[Check]) -> list[Result]:
    """Run the checks that are not over; return the results of all. Raises QueueNeeded where a check does.

    Args:
        stand: What they work on.
        deadline: On the monotonic clock: after it no further check begins.
        checks: In order.
    """
    results: dict[str, Result] = {}
    folder = stand.folder / "results"
    for check in checks:
        result = stored(folder, check.name)
        if result is None:
            say(f"{check.title} ...")
            if time.monotonic() > deadline:
                stand.over = stand.over or "the time for the whole acceptance was over (--minutes)"
            result = _run(check, stand, results)
            store(folder, result)
        results[check.name] = result
        stand.found[check.name] = result.found
        say(f"{check.title}: {result.words()}")
    return list(results.values())


def _run(check: Check, stand: Stand, results: dict[str, Result]) -> Result:
    lacking = [name for name in check.needs if results[name].verdict != "passed"]
    if lacking:
        return Result(check.name, check.title, "not run", f"this needs: {results[lacking[0]].title}")
    if stand.over:
        return Result(check.name, check.title, "failed", stand.over)
    began = time.monotonic()
    try:
        answer = check.ask(stand)
        verdict, says, found = "passed", answer.says, answer.found
    except NotRun as error:
        verdict, says, found = "not run", str(error), error.found
    except CheckFailed as error:
        verdict, says, found = "failed", str(error), error.found
    except MsvlError as error:
        verdict, says, found = "failed", str(error), {}
    except (OSError, LookupError, ValueError) as error:  # a file that ranks did not leave, or left in halves
        verdict, says, found = "failed", f"{type(error).__name__}: {error}", {}
    return Result(check.name, check.title, verdict, says, time.monotonic() - began, found)  # type: ignore[arg-type]


def accept(
    wish: Wish,
    place: Place,
    *,
    restart: int = 0,
    requeue: Callable[[], str] | None = None,
    over: str | None = None,
    checks: Sequence[Check] = CHECKS,
) -> tuple[bool, list[Result]]:
    """Run all checks and write the page; return whether everything that was run passed, and the results.

    Args:
        wish: What was asked for.
        place: Where ranks run.
        restart: How often the job had started before.
        requeue: Sends the job back to the queue and does not return; returns why when the queue does not take it.
        over: Why no further check may begin.
        checks: In order.
    """
    folder = Path(wish.folder)
    form = FORMS[wish.form]
    base = load_config(wish.config, [], PretrainConfig)
    cache = Path(wish.hub_cache) if wish.hub_cache else default_cache()
    world = place.nodes * place.ranks_per_node
    configs, notes = write_configs(base, form, folder, world=world, cache=cache)
    stand = Stand(folder, place, base, form, configs, notes, broken=wish.broken, restart=restart, over=over)
    deadline = time.monotonic() + 60 * wish.minutes
    while True:
        try:
            results = run_checks(stand, deadline, checks)
            break
        except QueueNeeded as needed:
            stand.refused = requeue() if requeue else "there is no queue"
            if isinstance(needed, Interrupted):
                stand.over = f"Slurm's time for the job was over, and it did not take the job back: {stand.refused}"
    minutes = sum(result.seconds for result in results) / 60
    facts = Facts(wish.shown, form.name, place.nodes, place.ranks_per_node, minutes, wish.broken)
    write_page(folder, results, facts, hosts=place.host_names())
    return accepted(results), results


@dataclass(frozen=True)
class AcceptJob:
    """What submitit pickles: an acceptance in the batch process of its job."""

    wish: Wish
    training: TrainingJob
    """Knows how ranks are started on the nodes."""

    def __call__(self) -> str:
        """Accept; return where the page is. Raises ClusterError when a check failed."""
        signals = Signals()
        signals.install()
        job = scontrol.running_job(os.environ)
        restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        names = scontrol.node_names(os.environ["SLURM_JOB_NODELIST"])
        say(f"acceptance of {len(names)} nodes: job {job}, restart {restart}")
        place = JobNodes(self.training, job, restart, names, signals)
        over = f"the job had started {MAX_STARTS} times: give it more --time" if restart >= MAX_STARTS else None
        good, results = accept(self.wish, place, restart=restart, requeue=lambda: _requeue(job), over=over)
        page = Path(self.wish.folder) / "acceptance.html"
        if not good:
            failed = [result.title for result in results if result.verdict == "failed"]
            raise ClusterError(f"not accepted ({', '.join(failed)}): {page}")
        return f"accepted: {page}"


def _requeue(job: str) -> str:
    """Go back to the queue; return only when Slurm does not want it, with the reason."""
    say("the acceptance goes on when Slurm has put the job back and started it again")
    try:
        go_back_to_the_queue(job)
    except ClusterError as error:
        return str(error)
