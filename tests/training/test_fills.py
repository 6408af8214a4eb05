"""Filled places: on disk before the step, counted by all ranks together, repeated by a resume."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from msvl.collectives.agree import barrier
from msvl.collectives.world import rank
from msvl.config.errors import CheckpointError, DataError
from msvl.data.faults import Fault, Fill, LostSamples
from msvl.data.fills import read_fills
from msvl.training.fills import FillLog
from tests.helpers.ranks import run_ranks


def fill(position: int, *faults: Fault, step: int = 0, attempt: int = 1) -> Fill:
    return Fill(step, position, attempt, f"s{position}", faults or (Fault("a.tar", f"k{position}", "bad"),))


def batch(*fills: Fill) -> SimpleNamespace:
    return SimpleNamespace(fills=fills)


def test_events_are_on_disk_before_they_are_shared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = FillLog(tmp_path, samples=1000, max_share=0.01)
    assert not log.record(batch())
    assert not (tmp_path / "fills").exists()
    assert log.record(batch(fill(3), fill(8, step=1)))
    assert read_fills(tmp_path) == {3: fill(3), 8: fill(8, step=1)}
    with caplog.at_level(logging.WARNING):
        log.share()
        log.record(batch(fill(19, Fault("a.tar", "k3", "bad"), step=2)))
        log.share()
    assert caplog.text.count("sample k3 of a.tar cannot be used and is replaced: bad") == 1
    assert FillLog(tmp_path, samples=1000, max_share=0.01).known == log.known
    assert log.before(2) == {"places": 2, "lost_samples": 2}


def test_a_line_that_a_kill_cut_is_no_event_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    FillLog(tmp_path, samples=9, max_share=1).record(batch(fill(3)))
    path = tmp_path / "fills" / "rank-00000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert read_fills(tmp_path) == {3: fill(3)}
    FillLog(tmp_path, samples=9, max_share=1).record(batch(fill(5)))
    assert read_fills(tmp_path) == {3: fill(3), 5: fill(5)}
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(CheckpointError, match=r"rank-00000\.jsonl, line 1 is damaged"):
        read_fills(tmp_path)


def test_the_latest_attempt_counts(tmp_path: Path) -> None:
    log = FillLog(tmp_path, samples=9, max_share=1)
    log.record(batch(fill(3, attempt=1)))
    log.record(batch(fill(3, attempt=2)))
    assert read_fills(tmp_path)[3].attempt == 2


def test_a_lost_shard_counts_all_its_samples_once() -> None:
    lost = LostSamples(samples=1000, max_share=0.05)
    assert lost.add([Fault("a.tar", "k1", "bad"), Fault("a.tar", "k1", "bad"), Fault("b.tar", "k1", "bad")])
    lost.check()
    assert lost.count == 2
    lost.add([Fault("a.tar", "", "gone", samples=50)])
    assert lost.count == 51
    assert lost.add([Fault("a.tar", "k2", "bad")]) == []
    with pytest.raises(
        DataError, match=r"51 of 1,000 samples cannot be read.*0\.05 allows; the last is all of a\.tar: gone"
    ):
        lost.check()


def share_on(run: str) -> tuple[str, bool, int]:
    log = FillLog(Path(run), samples=100, max_share=0.03)
    barrier()  # as in training, where no rank gets to its first step before all have read the events
    log.record(batch(*(fill(10 * rank() + n) for n in range(2))))
    try:
        log.share()
    except DataError as error:
        return str(error), error.agreed, len(log.known)
    return "", False, len(log.known)


@pytest.mark.ranks
@pytest.mark.evidence(
    "Unreadable samples of all ranks are counted together, and above the share all ranks stop with one message",
    how="gloo",
)
def test_ranks_count_together_and_stop_together(tmp_path: Path) -> None:
    answers = run_ranks(2, share_on, str(tmp_path))
    assert answers[0] == answers[1]
    message, agreed, known = answers[0]
    assert agreed and known == 4
    assert "4 of 100 samples cannot be read" in message
    assert len(read_fills(tmp_path)) == 4
