"""Chains on a real Slurm: training, judgement by array jobs, tables; a sweep; a packing in parts; dead jobs."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
import yaml

from launch.cluster import read_cluster
from launch.job import ClusterJob, Executor, Resources, build_executor, submit
from tests.slurm.checkout import Checkout
from tests.slurm.jobs import Sleeper

pytestmark = pytest.mark.slurm
QUICK = {"steps": 2}


@pytest.fixture
def one_node(checkout: Checkout) -> Checkout:
    checkout.edit_cluster(NODES=1)
    return checkout


def write_plan(checkout: Checkout, *cells: dict) -> None:
    path = checkout.root / "configs" / "evaluate" / "tiny.yaml"
    path.write_text(yaml.safe_dump({"cells": list(cells), "minutes": 5, "parallel": 2}))


@pytest.mark.evidence(
    "Pretraining, its judgement as an array job and a table, chained; a failed cell is shown as failed and is judged again alone",
    how="slurm",
)
def test_training_judgement_and_table(one_node: Checkout) -> None:
    checkout = one_node
    checkout.write_config(train=QUICK)
    good = {"tasks": ["retrieval"], "seeds": [0, 1], "options": {"resamples": [0]}}
    bad = {"tasks": ["zero_shot"], "options": {"prompts": ["prompts.yaml"], "resamples": [0]}}
    write_plan(checkout, good, bad)
    job, output = checkout.sbatch("pretrain", "configs/tiny.yaml", "--evaluate", "configs/evaluate/tiny.yaml")
    table = re.search(r"by job (\d+)", output)
    assert table, output
    assert checkout.wait(job) == "COMPLETED", checkout.explain(job)
    assert checkout.wait(table[1]) == "COMPLETED", checkout.explain(table[1])
    page = checkout.run_folder() / "evaluation" / "table.md"
    text = page.read_text()
    assert "2 of 3 cells judged" in text
    assert re.search(r"\| retrieval \| own \| test \| resamples=0 \| report_r5 \| [0-9.]+ \| [0-9.]+ \| 2 \|", text)
    assert "FAILED" in text
    assert "prompts.yaml" in text
    status = checkout.type(
        sys.executable, "-m", "launch.evaluate", "runs/tiny", "--plan", "configs/evaluate/tiny.yaml", "--status"
    )
    assert status.returncode == 1
    # The cure, and the same command again.
    findings = {"effusion": {"positive": ["effusion"], "negative": ["no effusion"]}}
    (checkout.root / "prompts.yaml").write_text(yaml.safe_dump(findings))
    before = {path.name: path.stat().st_mtime_ns for path in page.parent.glob("cell-retrieval*.json")}
    table_job, output = checkout.sbatch("evaluate", "runs/tiny", "--plan", "configs/evaluate/tiny.yaml")
    assert "submitted 1 of 3 cells" in output
    assert checkout.wait(table_job) == "COMPLETED", checkout.explain(table_job)
    assert "3 of 3 cells judged" in page.read_text()
    assert {path.name: path.stat().st_mtime_ns for path in page.parent.glob("cell-retrieval*.json")} == before


@pytest.mark.evidence(
    "A 2 x 2 sweep with its judgement ends in a table and a plot; finished runs are not redone", how="slurm"
)
def test_a_sweep_and_its_judgement(one_node: Checkout) -> None:
    checkout = one_node
    checkout.write_config(train=QUICK)
    write_plan(checkout, {"tasks": ["retrieval"], "options": {"resamples": [0]}})
    sweep = {
        "name": "two-by-two", "base": "configs/tiny.yaml", "evaluate": "configs/evaluate/tiny.yaml", "parallel": 2,
        "grid": {"train.seed": [0, 1], "optimizer.lr": [1e-3, 1e-4]},
    }  # fmt: skip
    (checkout.root / "configs" / "sweep" / "tiny.yaml").write_text(yaml.safe_dump(sweep))
    summary, output = checkout.sbatch("sweep", "configs/sweep/tiny.yaml")
    assert summary, output
    assert checkout.wait(summary, limit=300) == "COMPLETED", checkout.explain(summary)
    folder = checkout.root / "runs" / "two-by-two"
    results = json.loads((folder / "summary.json").read_text())
    assert [result["state"] for result in results] == ["done"] * 4
    assert all("retrieval.report_r5 (own, resamples=0, seed 0)" in result["figures"] for result in results)
    assert (folder / "summary.png").is_file()
    assert "4 of 4 runs finished" in (folder / "summary.md").read_text()
    again = checkout.type("bash", "slurm/sweep.sh", "configs/sweep/tiny.yaml")
    assert "submitted 0 of 4 runs" in again.stderr
    status = checkout.type(sys.executable, "-m", "launch.sweep", "status", "configs/sweep/tiny.yaml")
    assert status.returncode == 0, status.stderr
    assert status.stdout.count(" done ") == 4


@pytest.mark.evidence("A packing by array jobs gives the bytes of one packing", how="slurm")
def test_packing_in_parts(one_node: Checkout) -> None:
    checkout = one_node
    source = ("phantom", "--train", "12", "--val", "4", "--test", "4", "--size", "64")
    done = checkout.type(
        sys.executable,
        "-m",
        "launch.pack",
        "--parts",
        "2",
        "--cpus",
        "1",
        "--minutes",
        "10",
        *source,
        "--out",
        "shards/parts",
    )
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    whole = checkout.type(
        sys.executable, "-m", "msvl.cli", "data", "pack", *source, "--out", "shards/whole", "--workers", "1"
    )
    assert whole.returncode == 0, whole.stderr
    assert checkout.wait(job) == "COMPLETED", checkout.explain(job)
    shards = sorted((checkout.root / "shards" / "whole").rglob("*.tar"))
    assert shards
    for shard in shards:
        assert (
            checkout.root / "shards" / "parts" / shard.relative_to(checkout.root / "shards" / "whole")
        ).read_bytes() == shard.read_bytes()


@pytest.mark.evidence("A dead job is not waited for without end where there is no accounting", how="slurm")
def test_a_dead_job_is_not_waited_for(one_node: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_jobs_end_a_wait(one_node, monkeypatch)


def dead_jobs_end_a_wait(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that answers gives its answer; one that is cancelled, and one that Slurm has forgotten, end the wait."""
    executor = executor_in(checkout, monkeypatch)
    fine, doomed = submit(executor, [Sleeper(0.1, "woken"), Sleeper(600, "never")])
    assert fine.result() == "woken"
    began = time.monotonic()
    checkout.slurm.run("scancel", doomed.job_id)
    with pytest.raises(Exception, match="has not produced any output"):
        doomed.result()
    assert time.monotonic() - began < 60
    assert doomed.state == "CANCELLED"
    forgotten: ClusterJob = ClusterJob(folder=executor.folder, job_id="999999", tasks=[0])
    with pytest.raises(Exception, match="has not produced any output"):
        forgotten.result()


def executor_in(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Executor:
    """Return an executor as the launchers build it, for jobs of the tests."""
    for name, value in checkout.slurm.environment.items():
        monkeypatch.setenv(name, value)
    cluster = read_cluster(checkout.root)
    return build_executor(
        checkout.root / "jobs", Path(__file__).resolve().parents[2], cluster, Resources(name="sleep", time="5")
    )
