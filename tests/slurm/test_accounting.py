"""The same with accounting: slurmdbd and MariaDB, private too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.runs import losses
from tests.slurm.checkout import Checkout, copy_checkout
from tests.slurm.private_cluster import PrivateCluster, until
from tests.slurm.test_pipelines import dead_jobs_end_a_wait
from tests.slurm.test_training import resumed_equals, started, uninterrupted  # noqa: F401 - a fixture

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def accounted(tmp_path: Path, slurm_with_accounting: PrivateCluster, tiny_set: Path) -> Checkout:
    slurm_with_accounting.empty()
    return Checkout(copy_checkout(tmp_path / "msvl"), slurm_with_accounting, tiny_set)


@pytest.mark.slow
@pytest.mark.evidence("With accounting: a requeued run resumes, and Slurm keeps both starts", how="slurm")
def test_a_requeued_run_with_accounting(accounted: Checkout, uninterrupted: list) -> None:  # noqa: F811
    job = started(accounted)
    accounted.slurm.run("scancel", "--batch", "--signal=USR2", job)
    resumed_equals(accounted, job, uninterrupted)

    def states() -> list[str]:
        text = accounted.slurm.run("sacct", "-D", "-X", "-n", "-P", "-o", "State", "-j", job)
        return text.split()

    until(lambda: states() == ["REQUEUED", "COMPLETED"], 30, "sacct knows both starts", lambda: str(states()))
    assert losses(accounted.run_folder())


@pytest.mark.slow
@pytest.mark.evidence("With accounting: a dead job is not waited for without end", how="slurm")
def test_a_dead_job_with_accounting(accounted: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    accounted.edit_cluster(NODES=1)
    dead_jobs_end_a_wait(accounted, monkeypatch)
