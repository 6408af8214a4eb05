"""Who is behind, and when standing still is a hang."""

from __future__ import annotations

from typing import Any

import pytest

from msvl.monitoring.heartbeat import Beat
from msvl.training.hang_page import render, slowest_rank
from msvl.training.watchdog import OTHER_SHARE, deadline


def entry(number: int, **told: Any) -> dict[str, Any]:
    """What one rank left, 100 s before it was looked at unless told otherwise."""
    return {
        "who": {"rank": number, "pid": 10 + number, "host": "n1"}, "state": told.get("state", "sleeping"), "seen": 200.0,
        "now": {"phase": told.get("phase", "forward"), "step": 7, "since": told.get("since", 100.0), "beats": told.get("beats", 30)},
        "batch": {"step": 7, "keys": [f"k{number}"]}, "stacks": "",
        "collective": {"what": "all_gather at a.py:1 (f)", "number": told.get("collectives", 5), "since": 100.0},
        "readers": [{"shard": "s.tar", "key": "", "pid": 10 + number, "since": 90.0}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"beats": 29}, id="fewer-phases"),
        pytest.param({"collectives": 4}, id="fewer-collectives"),
        pytest.param({"since": 101.0}, id="came-last"),
        pytest.param({"state": "stopped", "beats": 31}, id="stopped-whatever-it-did"),
        pytest.param({"state": "gone", "beats": 31}, id="gone"),
        pytest.param({"state": "waiting for a device or a file system in nfs_wait", "beats": 30}, id="in-the-kernel"),
    ],
)
def test_the_slowest_rank(told: dict[str, Any]) -> None:
    ranks = [entry(0), entry(1, **told), entry(2)]
    slowest = slowest_rank(ranks)
    assert slowest["who"]["rank"] == 1
    page = render(ranks, slowest, world=4, seconds=60, attempt=3)
    assert "Slowest: rank 1 on n1\n" in page
    assert "no word from ranks 3" in page


def beat(phase: str) -> Beat:
    return Beat({}, {"phase": phase, "step": 1, "since": 0.0, "mark": 50.0, "beats": 1}, {}, {}, [])


def test_a_step_has_its_limit_and_what_is_no_step_more() -> None:
    assert deadline(beat("forward"), 10) == deadline(beat("data"), 10) == 60
    assert (
        deadline(beat("start"), 10)
        == deadline(beat("judge"), 10)
        == deadline(beat("save"), 10)
        == 50 + 10 * OTHER_SHARE
    )
