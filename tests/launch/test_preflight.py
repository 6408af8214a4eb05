"""Nodes find each other, and a fault is said with the node's name."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launch.cluster import ROOT
from launch.preflight import gather, greet, node_faults, read_reports, write_report
from launch.snapshot import code_hash, take_snapshot
from msvl.config.errors import ClusterError
from msvl.environment import free_port
from tests.helpers.runs import tiny_config
from tests.integration.conftest import tiny_set  # noqa: F401 - the same fixture


def test_the_first_node_hears_the_others_and_names_the_silent_one() -> None:
    port = free_port()
    greetings = [threading.Thread(target=greet, args=("127.0.0.1", port, name)) for name in ("n2", "n3")]
    for thread in greetings:
        thread.start()
    assert gather(port, ["n2", "n3", "n4"], patience=2) == ["n4"]
    for thread in greetings:
        thread.join(10)


def test_a_first_node_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        greet("127.0.0.1", free_port(), "n2", patience=0.3)


def test_faults_are_said_with_the_nodes_name_and_silence_is_told(tmp_path: Path) -> None:
    write_report(tmp_path, "n1", [])
    assert read_reports(tmp_path, ["n1", "n2"]) == ["n2"]
    write_report(tmp_path, "n2", ["1.0 GB are free for the run folder"])
    with pytest.raises(ClusterError, match=r"pre-flight found: n2: 1.0 GB are free for the run folder"):
        read_reports(tmp_path, ["n1", "n2"])


def test_code_disk_gpus_and_shards_are_looked_at(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"run: {{name: a, folder: {tmp_path}}}\ndata: {{path: {tmp_path}/gone}}\ntrain: {{steps: 1, global_batch: 2}}\n"
    )
    words = argparse.Namespace(
        folder=tmp_path, config=str(config), code_hash="0", gpus=99, min_free_gb=1e9, ranks_per_node=1
    )
    faults = node_faults(words, nodes=2)
    for part in (
        "is not what was submitted",
        "GPUs instead of 99",
        "MIN_FREE_GB asks for 1e+09",
        "gone is no packed set",
    ):
        assert any(part in fault for fault in faults), (part, faults)
    words.code_hash = code_hash(ROOT)
    assert not any("submitted" in fault for fault in node_faults(words, nodes=2))


@pytest.mark.evidence(
    "The pre-flight of a job names the node that has other code or does not see the shards, and no other one", how="cpu"
)
def test_the_node_at_fault_is_named(tiny_set: Path, tmp_path: Path) -> None:  # noqa: F811
    """Two nodes, each with a disk of its own: a working folder and a copy of the code."""
    config = tiny_config(tmp_path / "c.yaml", data=Path("shards/tiny"), runs=tmp_path / "runs", name="a")
    reports = tmp_path / "reports"
    reports.mkdir()
    code = {name: take_snapshot(ROOT, tmp_path / name / "code") for name in ("n1", "n2")}
    submitted = code_hash(code["n1"])
    (code["n2"] / "launch" / "node.py").write_text("edited since")
    (tmp_path / "n1" / "shards").mkdir()
    (tmp_path / "n1" / "shards" / "tiny").symlink_to(tiny_set)
    words = ["--folder", str(reports), "--config", str(config), "--code-hash", submitted, "--address", "127.0.0.1"]
    words += [
        "--port",
        str(free_port()),
        "--nodes",
        "n1,n2",
        "--ranks-per-node",
        "1",
        "--gpus",
        "0",
        "--min-free-gb",
        "0",
    ]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "launch.preflight", *words], cwd=tmp_path / name,
            env=os.environ | {"PYTHONPATH": str(code[name]), "SLURMD_NODENAME": name},
        )
        for name in ("n1", "n2")
    ]  # fmt: skip
    assert [node.wait(60) for node in nodes] == [0, 0]
    with pytest.raises(ClusterError) as told:
        read_reports(reports, ["n1", "n2"])
    assert f"n2: its code in {code['n2']} is not what was submitted" in str(told.value)
    assert "n2: shards/tiny is no packed set" in str(told.value)
    assert "n1: " not in str(told.value)
