"""A private Slurm for the session, and a checkout whose cluster.env names it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import tiny_set  # noqa: F401 - the same fixture
from tests.slurm.checkout import Checkout, copy_checkout
from tests.slurm.private_cluster import PrivateCluster, SlurmUnavailable

CI = "MSVL_CI"
"""Set by .ci/run: there, Slurm must be installed."""


def start(*, accounting: bool) -> Iterator[PrivateCluster]:
    folder = Path(tempfile.mkdtemp(prefix="msvl-slurm-"))
    try:
        cluster = PrivateCluster(folder, accounting=accounting)
    except SlurmUnavailable as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get(CI):
            pytest.fail(f"no Slurm in CI: {error}")
        pytest.skip(f"no Slurm: {error}")
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[PrivateCluster]:
    yield from start(accounting=False)


@pytest.fixture
def slurm(slurm_session: PrivateCluster) -> Iterator[PrivateCluster]:
    """The cluster, idle before and emptied after a test."""
    slurm_session.empty()
    yield slurm_session
    slurm_session.empty()


@pytest.fixture(scope="session")
def slurm_with_accounting() -> Iterator[PrivateCluster]:
    yield from start(accounting=True)


@pytest.fixture
def checkout(tmp_path: Path, slurm: PrivateCluster, tiny_set: Path) -> Checkout:  # noqa: F811
    return Checkout(copy_checkout(tmp_path / "msvl"), slurm, tiny_set)
