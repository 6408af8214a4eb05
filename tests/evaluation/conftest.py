"""A small phantom, and a run that was judged on it once: every module of tests gets a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from msvl.cli import main
from tests.evaluation.judged_runs import fast_protocol, make_run, pack_phantom


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom."""
    return pack_phantom(tmp_path_factory.mktemp("shards") / "phantom")


@pytest.fixture(scope="session")
def judged_once(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """A run that was judged by the fast protocol beside its untrained twin."""
    folder = tmp_path_factory.mktemp("judged")
    run = make_run(folder, packed)
    protocol = fast_protocol(folder / "fast.yaml")
    assert main(["evaluate", str(run), "--protocol", str(protocol), "--untrained", "--resamples", "20"]) == 0
    return run


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, judged_once: Path) -> Path:
    """Its copy, `fast.yaml` beside it."""
    folder = tmp_path_factory.mktemp("runs") / "copy"
    return Path(shutil.copytree(judged_once.parent, folder)) / judged_once.name
