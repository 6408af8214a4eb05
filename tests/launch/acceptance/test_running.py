"""The order of checks, what a failure does to those that need it, restarts and limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launch.acceptance.page import DATA
from launch.acceptance.places import Ended, Interrupted, QueueNeeded
from launch.acceptance.results import Result, accepted, store, stored
from launch.acceptance.running import Wish, accept, run_checks
from launch.acceptance.stand import Answer, Check, CheckFailed, NotRun, Stand
from msvl.config.errors import DataError
from tests.helpers.runs import ROOT


@dataclass
class Nowhere:
    """A place that nothing is run in."""

    nodes: int = 1
    ranks_per_node: int = 2
    requeues: bool = True
    started: list[Sequence[str]] = field(default_factory=list)

    def process(self, words: Sequence[str], log: Path, *, seconds: float) -> Ended:
        raise AssertionError(words)

    def ranks(self, words: Sequence[str], log: Path, *, config: Path, seconds: float) -> Ended:
        raise AssertionError(words)

    def host_names(self) -> list[str]:
        return ["cn042"]

    def check_nodes(self, folder: Path, config: Path) -> list[str]:
        return ["cn042"]


def stand(folder: Path, **more: Any) -> Stand:
    return Stand(folder, Nowhere(), None, None, None, "", **more)  # type: ignore[arg-type]


def check(name: str, ask: Callable[[Stand], Answer], *needs: str) -> Check:
    return Check(name, name, ask, needs)


def good(_: Stand) -> Answer:
    return Answer("well", {"number": 1})


def raising(error: Exception) -> Callable[[Stand], Answer]:
    def ask(_: Stand) -> Answer:
        raise error

    return ask


def later(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def test_a_failure_is_told_and_what_needs_it_is_not_run(tmp_path: Path) -> None:
    checks = [
        check("a", good),
        check("b", raising(CheckFailed("no room", {"free": 0})), "a"),
        check("c", good, "b"),
        check("d", good, "c"),
        check("e", good, "a"),
    ]
    results = run_checks(stand(tmp_path), later(), checks)
    assert [(one.verdict, one.says) for one in results] == [
        ("passed", "well"), ("failed", "no room"), ("not run", "this needs: b"), ("not run", "this needs: c"), ("passed", "well"),
    ]  # fmt: skip
    assert results[1].found == {"free": 0}
    assert not accepted(results)


@pytest.mark.parametrize(
    ("error", "verdict", "says"),
    [
        (DataError("shard 3 is damaged"), "failed", "shard 3 is damaged"),
        (FileNotFoundError(2, "No such file", "links.json"), "failed", "FileNotFoundError: [Errno 2] No such file: 'links.json'"),
        (json.JSONDecodeError("half a file", "{", 1), "failed", "JSONDecodeError: half a file: line 1 column 2 (char 1)"),
        (NotRun("there is only one rank", {"ranks": 1}), "not run", "there is only one rank"),
    ],
)  # fmt: skip
def test_whatever_a_check_meets_becomes_a_result(tmp_path: Path, error: Exception, verdict: str, says: str) -> None:
    (result,) = run_checks(stand(tmp_path), later(), [check("a", raising(error))])
    assert (result.verdict, result.says) == (verdict, says)
    assert verdict == "failed" or result.found == {"ranks": 1}


def test_nothing_run_is_not_accepted() -> None:
    assert not accepted([Result("a", "a", "not run", "of a reason")])


def test_after_the_deadline_nothing_begins(tmp_path: Path) -> None:
    results = run_checks(stand(tmp_path), time.monotonic() - 1, [check("a", good)])
    assert (results[0].verdict, results[0].says) == ("failed", "the time for the whole acceptance was over (--minutes)")


def test_a_second_start_goes_on(tmp_path: Path) -> None:
    store(tmp_path / "results", Result("a", "a", "passed", "an hour ago", found={"number": 7}))
    place = stand(tmp_path)
    results = run_checks(place, later(), [check("a", raising(AssertionError())), check("b", good, "a")])
    assert [one.says for one in results] == ["an hour ago", "well"]
    assert place.found["a"] == {"number": 7}


def wish(folder: Path) -> Wish:
    return Wish(str(folder), str(ROOT / "configs/pretrain/quickstart.yaml"), "quickstart", "short", minutes=1)


def test_a_warning_sends_the_job_to_the_queue_and_is_no_verdict(tmp_path: Path) -> None:
    class Gone(BaseException):
        pass

    def requeue() -> str:
        raise Gone

    checks = [check("a", good), check("b", raising(Interrupted()))]
    with pytest.raises(Gone):
        accept(wish(tmp_path), Nowhere(), requeue=requeue, checks=checks)
    assert stored(tmp_path / "results", "a") is not None
    assert stored(tmp_path / "results", "b") is None, "the check is made again by the next start"
    assert not (tmp_path / DATA).exists()


def test_a_warned_job_that_the_queue_refuses_still_leaves_a_page(tmp_path: Path) -> None:
    checks = [check("a", good), check("b", raising(Interrupted())), check("c", good, "a")]
    fine, results = accept(wish(tmp_path), Nowhere(), requeue=lambda: "requeue is off", checks=checks)
    assert not fine
    assert [one.verdict for one in results] == ["passed", "failed", "failed"]
    assert "Slurm's time for the job was over, and it did not take the job back: requeue is off" in results[1].says
    assert json.loads((tmp_path / DATA).read_text())["accepted"] is False


def test_a_refused_requeue_of_the_drill_is_known_to_its_check(tmp_path: Path) -> None:
    def drill(place: Stand) -> Answer:
        if place.refused is None:
            raise QueueNeeded
        raise CheckFailed(place.refused)

    _, results = accept(wish(tmp_path), Nowhere(), requeue=lambda: "not allowed", checks=[check("a", drill)])
    assert (results[0].verdict, results[0].says) == ("failed", "not allowed")


def test_a_job_that_started_too_often_leaves_a_page(tmp_path: Path) -> None:
    fine, results = accept(wish(tmp_path), Nowhere(), over="the job had started 5 times", checks=[check("a", good)])
    assert not fine
    assert results[0].says == "the job had started 5 times"
