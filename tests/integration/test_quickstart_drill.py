"""`make quickstart` as a new user types it: a fresh clone, two cores, no network, and once more; then the paper's tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paper_rows import not_shown
from tests.helpers.runs import ROOT

TOKEN = "MSVL_DRILL"
MINUTES, GIBIBYTES = 12.0, 8.0
OFFLINE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""Runs a command in a network namespace that has nothing but the loopback device."""
pytestmark = pytest.mark.slow


class Memory:
    """The largest proportional set size of all processes that carry the token, sampled every second."""

    def __init__(self, token: str) -> None:
        self.peak = 0
        self._marker = f"{TOKEN}={token}".encode()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            self.peak = max(self.peak, sum(map(self._bytes, Path("/proc").glob("[0-9]*"))))

    def _bytes(self, process: Path) -> int:
        try:
            if self._marker not in (process / "environ").read_bytes():
                return 0
            line = next(line for line in (process / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):
            return 0
        return 1024 * int(line.split()[1])


def make(clone: Path, target: str, token: str, *before: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    return subprocess.run(
        [*before, "make", target], cwd=clone, env=variables | {TOKEN: token}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an environment of its own."""
    folder = tmp_path_factory.mktemp("drill") / "msvl"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    done = make(folder, "setup", "setup")
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


@pytest.fixture(scope="module")
def results(clone: Path) -> dict[str, Any]:
    """What the quickstart wrote, with its minutes and its peak of memory."""
    cores = ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))]
    began = time.monotonic()
    with Memory("first") as memory:
        done = make(clone, "quickstart", "first", *cores, *OFFLINE)
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads((clone / "runs" / "quickstart" / "results.json").read_text())
    return found | {"minutes": (time.monotonic() - began) / 60, "peak": memory.peak / 2**30, "output": done.stdout}


@pytest.mark.skipif(
    shutil.which("unshare") is None or shutil.which("ip") is None, reason="needs unshare and ip (Linux)"
)
@pytest.mark.evidence(
    "`make quickstart` takes less than 12 minutes and 8 GB on two cores, without a network once the packages are there",
    how="gloo",
)
def test_time_and_memory_without_a_network(results: dict[str, Any]) -> None:
    assert results["minutes"] < MINUTES
    assert 0.5 < results["peak"] < GIBIBYTES


@pytest.mark.evidence(
    "The quickstart's model learns all four scales: zero-shot AUC at least 0.88 and above a regression on pixels, report R@5 ten "
    "times chance, grounding CNR above 0.6, each above its untrained twin",
    how="gloo",
)
def test_the_model_has_learnt(results: dict[str, Any]) -> None:
    zero_shot, retrieval, grounding = (results[task] for task in ("zero_shot", "retrieval", "grounding"))
    assert zero_shot["auc_mean"] >= max(0.88, results["pixel_baseline"]["auc_mean"])
    assert retrieval["report_r5"] >= 10 * retrieval["report_r5_chance"]
    assert grounding["cnr"] > max(0.6, grounding["cnr_untrained"] + 0.3)
    assert grounding["miou_interval"][0] > grounding["miou_untrained_interval"][1]
    assert results["linear_probe"]["auc_mean"] > results["linear_probe"]["auc_mean_untrained"]
    scales = results["scales"]
    assert scales["matching_accuracy"] > 0.6
    assert scales["masked_token_cross_entropy"] < scales["masked_token_cross_entropy_guess"]
    assert scales["reconstruction_error"] < scales["reconstruction_error_guess"]


def test_it_says_what_was_on(results: dict[str, Any], clone: Path) -> None:
    facts = results["facts"]
    assert (facts["ranks"], facts["zero_stage"], facts["precision"]) == (2, 2, "fp32")
    assert "ZeRO-2, fp32" in results["output"]
    engine = clone / "runs" / "quickstart" / "checkpoints" / "best" / "engine"
    assert len(list(engine.glob("*optim_states.pt"))) == 2


@pytest.mark.skipif(
    shutil.which("unshare") is None or shutil.which("ip") is None, reason="needs unshare and ip (Linux)"
)
@pytest.mark.evidence(
    "`make test` passes without a network once the packages are there, and installs nothing (Slurm's tests are skipped where it is missing)",
    how="gloo",
)
def test_the_tests_pass_without_a_network(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSVL_CI", raising=False)
    done = make(clone, "test", "tests", *OFFLINE)
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.evidence("`make quickstart` typed again finds everything done, and changes nothing", how="gloo")
def test_again(results: dict[str, Any], clone: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (clone / "runs").rglob("*") if path.is_file()}
    began = time.monotonic()
    done = make(clone, "quickstart", "second", *OFFLINE)
    assert done.returncode == 0, done.stdout[-3000:]
    assert time.monotonic() - began < 60
    assert f"{results['zero_shot']['auc_mean']:.3f}" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (clone / "runs").rglob("*") if path.is_file()} == before


def test_the_papers_tables(results: dict[str, Any], clone: Path) -> None:
    words = ["evaluate", "runs/quickstart", "--protocol", "clean", "--untrained", "--ranks", "2"]
    done = subprocess.run(
        [".venv/bin/msvl", *words], cwd=clone, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    (file,) = (clone / "runs" / "quickstart" / "evaluation").glob("*-clean.json")
    assert not_shown(json.loads(file.read_text())["figures"]) == []
