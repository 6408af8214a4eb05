"""A rank that hangs inside a Slurm job: the watchdog's page, its exit for a requeue, the requeue, and the run's end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.slurm.checkout import Checkout
from tests.slurm.test_training import (  # noqa: F401 - a fixture among them
    LONG,
    SAVE_EVERY,
    WITH_LOADER,
    command_line,
    facts,
    is_rank,
    resumed_equals,
    uninterrupted,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def rank_on(checkout: Checkout, job: str, node: str) -> int:
    """Return the process of a node's only rank; its loader has the same command line and environment."""
    found = [
        pid for pid in checkout.slurm.processes_of(job, node) if "msvl/train.py" in command_line(pid) and is_rank(pid)
    ]
    (rank,) = [pid for pid in found if parent(pid) not in found]
    return rank


@pytest.mark.evidence(
    "A rank that hangs inside a job: the watchdog names it and ends the start, the job goes back to the queue and resumes, losses to "
    "the bit",
    how="slurm",
)
@pytest.mark.parametrize("start", ["accelerate", "srun"])
def test_a_rank_that_hangs(start: str, checkout: Checkout, uninterrupted: list) -> None:  # noqa: F811
    checkout.edit_cluster(START=start)
    checkout.write_config(train=LONG["train"] | {"watchdog_minutes": 0.25})
    job, output = checkout.sbatch("pretrain", WITH_LOADER)
    assert job, output
    checkout.wait_for_step(SAVE_EVERY + 2, job=job)
    os.kill(rank_on(checkout, job, "n2"), signal.SIGSTOP)
    resumed_equals(checkout, job, uninterrupted)
    run = checkout.run_folder()
    first, second = checkout.starts()
    assert first["reason"].startswith("hung: rank 1 in "), first
    assert not first["asked"], "a hang without progress counts for the crash loop"
    assert second["step"] >= SAVE_EVERY
    (page,) = (run / "hang").glob("*.txt")
    assert str(page.relative_to(checkout.root)) in first["reason"]
    assert "Slowest: rank 1 on " in page.read_text()
    for rank in (0, 1):
        assert f"Stacks of rank {rank} (process " in page.read_text()
    assert "no step within 15 s" in checkout.output(job)
    assert [attempt["reason"].partition(":")[0] for attempt in facts(run)["attempts"]] == ["hung", "finished"]
