"""A rank that hangs is named on one page with its phase, sample, collective and all stacks; the attempt ends for a requeue."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from msvl.config.exit_codes import EXIT_FILE, REQUEUE
from tests.helpers.runs import Finished, launch, losses, orphans, tiny_config

WATCH = {"watchdog_minutes": 0.25, "steps": 8, "save_every": 2}


def hang(tiny_set: Path, folder: Path, where: str, number: int, *words: str) -> tuple[Finished, str]:
    """Run two ranks, of which rank 1 hangs; return how it ended, and the page."""
    config = tiny_config(folder / "run.yaml", data=tiny_set, runs=folder, name="r", train=WATCH)
    code = folder / "code"
    plan = json.dumps({"where": where, "rank": 1, "number": number})
    ended = launch(
        config, *words, script="tests/helpers/hung_train.py", environment={"HANG_AT": plan, EXIT_FILE: str(code)}, limit=120
    )  # fmt: skip
    assert ended.code != 0
    assert orphans(ended.token) == []
    pages = list((folder / "r" / "hang").glob("*.txt"))
    assert [page.name for page in pages] == ["attempt-00000001.txt"], ended.output[-3000:]
    assert code.read_text() == str(REQUEUE)
    sentences = [line for line in ended.output.splitlines() if line.startswith("msvl: ")]
    assert len(sentences) == 1 and "no step within 15 s" in sentences[0] and str(pages[0]) in sentences[0]
    reason = json.loads((folder / "r" / "run.json").read_text())["attempts"][-1]["reason"]
    assert reason.startswith("hung: rank 1 in ")
    page = pages[0].read_text()
    assert page.count("Slowest: rank 1 on ") == 1
    for rank in (0, 1):
        assert f"Stacks of rank {rank} (process " in page
    return ended, page


def slowest(page: str) -> str:
    return page.partition("Slowest: ")[2].partition("All ranks:")[0]


@pytest.mark.ranks
@pytest.mark.evidence(
    "A rank that sleeps in its loader, one that does not come to a collective and one stopped by SIGSTOP are named within the limit "
    "on a page with phase, last shard, sample key, collective and the stacks of all ranks; the attempt exits with the code for a "
    "requeue and leaves no process",
    how="gloo",
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_rank_that_sleeps_in_its_loader(workers: int, tiny_set: Path, tmp_path: Path) -> None:
    _, page = hang(tiny_set, tmp_path, "loader", 10, f"data.workers={workers}")
    about = slowest(page)
    assert re.search(r"phase data of step 3 for \d+ s", about), about
    assert re.search(r"reading sample [0-9a-f]{16} of \S+shard-\d{6}\.tar", about)
    assert ("in loader process" in about) == bool(workers)
    assert "last collective " in about
    assert "sleep_for_ever" in page
    assert re.search(r"rank 0 on .*phase (forward|agree) of step 3", page)


@pytest.mark.ranks
def test_a_rank_that_does_not_come_to_a_collective(tiny_set: Path, tmp_path: Path) -> None:
    _, page = hang(tiny_set, tmp_path, "collective", 12)
    about = slowest(page)
    assert re.search(r"phase (forward|agree|backward) of step \d", about), about
    numbers = [int(number) for number in re.findall(r"\(number (\d+)\)", page.partition("All ranks:")[2])]
    assert numbers[0] == numbers[1] + 1, page
    assert re.search(r"last collective \w+( \w+)? at \w+\.py:\d+ \(\w+\) \(number \d+\)", about)
    assert "sleep_for_ever" in page and "_all_gather" in page
    assert re.search(r"batch of step \d: [0-9a-f]{16}( [0-9a-f]{16}){3}$", about, re.M)


@pytest.mark.ranks
def test_a_stopped_rank_and_the_resume_after_it(tiny_set: Path, tmp_path: Path) -> None:
    _, page = hang(tiny_set, tmp_path, "stopped", 5)
    assert "process stopped" in slowest(page)
    assert "stand_still" in page, "it tells its stack once it may run again"
    done = launch(tmp_path / "run.yaml", "--resume")
    assert done.code == 0, done.output[-3000:]
    assert [step for step, _, _ in losses(tmp_path / "r")] == list(range(1, 9))
