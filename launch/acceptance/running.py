"""All checks in order, each within its limits and all within the whole's; then the page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch import scontrol
from launch.acceptance.checks import CHECKS, Check, CheckFailed, NotRun, QueueNeeded, Stand
from launch.acceptance.configs import FORMS, write_configs
from launch.acceptance.page import Facts, write_page
from launch.acceptance.places import JobNodes, Place
from launch.acceptance.results import Result, accepted, store, stored
from launch.attempt import TrainingJob, go_back_to_the_queue, say
from launch.signals import Signals
from msvl.config.errors import ClusterError, MsvlError
from msvl.config.load import load_config
from msvl.training.config import PretrainConfig
from msvl.training.hub import default_cache

MAX_STARTS = 5
"""A job that starts more often is on nodes that die."""


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
    """Until no further check begins."""
    broken: str | None = None
    """A mistake to make, to see it found."""
    hub_cache: str | None = None
    """Published weights; None is the user's own."""


def run_checks(stand: Stand, deadline: float, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Run the checks that are not over; return the results of all. Raises QueueNeeded where a check does."""
    results: dict[str, Result] = {}
    folder = stand.folder / "results"
    for check in checks:
        result = stored(folder, check.name) or _run(check, stand, results, deadline)
        store(folder, result)
        results[check.name] = result
        stand.found[check.name] = result.found
        say(f"{check.title}: {result.words()}")
    return list(results.values())


def _run(check: Check, stand: Stand, results: dict[str, Result], deadline: float) -> Result:
    lacking = [name for name in check.needs if results[name].verdict == "failed"]
    if lacking:
        return Result(check.name, check.title, "not run", f"this needs: {results[lacking[0]].title}")
    if time.time() > deadline:
        return Result(check.name, check.title, "failed", "the time for the whole acceptance was over")
    began = time.monotonic()
    try:
        answer = check.ask(stand)
        verdict, says, found = "passed", answer.says, answer.found
    except NotRun as error:
        verdict, says, found = "not run", str(error), {}
    except CheckFailed as error:
        verdict, says, found = "failed", str(error), error.found
    except MsvlError as error:
        verdict, says, found = "failed", str(error), {}
    except (OSError, LookupError, ValueError) as error:  # a file that ranks did not leave, or left in halves
        verdict, says, found = "failed", f"{type(error).__name__}: {error}", {}
    return Result(check.name, check.title, verdict, says, time.monotonic() - began, found)  # type: ignore[arg-type]


def accept(
    wish: Wish, place: Place, *, restart: int = 0, requeue: Callable[[], str] | None = None
) -> tuple[bool, list[Result]]:
    """Run all checks and write the page; return whether everything that was run passed, and the results.

    Args:
        wish: What was asked for.
        place: Where ranks run.
        restart: How often the job had started before.
        requeue: Sends the job back to the queue and does not return; returns why when the queue does not take it.
    """
    folder = Path(wish.folder)
    form = FORMS[wish.form]
    base = load_config(wish.config, [], PretrainConfig)
    cache = Path(wish.hub_cache) if wish.hub_cache else default_cache()
    world = place.nodes * place.ranks_per_node
    configs, notes = write_configs(base, form, folder, world=world, cache=cache)
    stand = Stand(folder, place, base, form, configs, notes, broken=wish.broken, restart=restart)
    began = _first_start(folder)
    deadline = began + 60 * wish.minutes
    while True:
        try:
            results = run_checks(stand, deadline)
            break
        except QueueNeeded:
            stand.refused = requeue() if requeue else "there is no queue"
    facts = Facts(wish.shown, form.name, place.nodes, place.ranks_per_node, (time.time() - began) / 60)
    write_page(folder, results, facts, hosts=place.host_names())
    return accepted(results), results


def _first_start(folder: Path) -> float:
    """Return when the first start of this acceptance was, in seconds since the epoch."""
    path = folder / "began"
    if not path.is_file():
        path.write_text(repr(time.time()), encoding="utf-8")
    return float(path.read_text(encoding="utf-8"))


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
        if restart >= MAX_STARTS:
            raise ClusterError(f"given up: this is start {restart + 1} of the job, and an acceptance needs two")
        names = scontrol.node_names(os.environ["SLURM_JOB_NODELIST"])
        say(f"acceptance of {len(names)} nodes: job {job}, restart {restart}")
        place = JobNodes(self.training, job, restart, names, signals)
        good, results = accept(self.wish, place, restart=restart, requeue=lambda: _requeue(job))
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
