"""slurm/cluster.env: read as bash reads it, and refused with one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launch.cluster import ROOT, Cluster, parse_env, read_cluster
from msvl.config.errors import ClusterError, ConfigError

EXAMPLES = sorted((ROOT / "slurm" / "examples").glob("*.env"))


def written(folder: Path, *lines: str) -> Path:
    path = folder / "cluster.env"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_unedited_file_is_refused_at_once_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch.pretrain"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("msvl: slurm/cluster.env has not been edited: PARTITION still says CHANGE-ME")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_whole_and_bash_reads_the_same(example: Path) -> None:
    tree = parse_env(example)
    cluster = Cluster.model_validate(tree)
    assert cluster.partition
    for name, value in tree.items():
        if name != "exports":
            shown = subprocess.run(
                ["bash", "-euc", f'source {example}; printf %s "${name.upper()}"'],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert shown.stdout == value


def test_three_examples_ship() -> None:
    assert {Cluster.model_validate(parse_env(path)).container for path in EXAMPLES} == {"none", "apptainer", "pyxis"}


def test_quotes_comments_and_exports_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "# head", 'MODULES="gcc/12 cuda"  # why', "ACCOUNT=", "export NCCL_DEBUG=INFO")
    assert parse_env(path) == {"modules": "gcc/12 cuda", "exports": {"NCCL_DEBUG": "INFO"}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PARTITION = gpu", "line 1: expected KEY=value"),
        ("TIME=$HOME", "line 1: expected KEY=value or export NAME=value, without \\$"),
        ("PARTITION='gpu", "line 1: No closing quotation"),
        ("PARTITON=gpu", "unknown key 'partiton': did you mean 'partition'"),
        ("PARTITION=gpu", "GPUS_PER_NODE is 0"),
        ("PARTITION=gpu\nGPUS_PER_NODE=8\nTIME=tomorrow", "time: found 'tomorrow'"),
        ("PARTITION=gpu\nGPUS_PER_NODE=8\nCONTAINER=pyxis", "CONTAINER=pyxis needs IMAGE"),
        ("PARTITION=gpu\nGPUS_PER_NODE=8\nIMAGE=a.sif", "IMAGE is set and CONTAINER=none"),
        ("PARTITION=gpu\nGPUS_PER_NODE=8\nCONTAINER=pyxis\nIMAGE=a", "needs LAUNCH_PYTHON"),
        ('PARTITION=gpu\nGPUS_PER_NODE=8\nSBATCH_OPTIONS="-C a100"', "SBATCH_OPTIONS: '-C' is not of the form"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_cluster(tmp_path, file=written(tmp_path, line))


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="there is no Python .*nowhere"):
        read_cluster(tmp_path, file=written(tmp_path, "PARTITION=gpu", "GPUS_PER_NODE=8", "PYTHON=nowhere"))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    lines = [
        "PARTITION=gpu",
        "GPUS_PER_NODE=8",
        "CONTAINER=apptainer",
        "IMAGE=a.sif",
        f"LAUNCH_PYTHON={sys.executable}",
    ]
    with pytest.raises(ClusterError, match="there is no image a.sif"):
        read_cluster(tmp_path, file=written(tmp_path, *lines))


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = written(tmp_path, "PARTITION=gpu", "GPUS_PER_NODE=8", f"PYTHON={sys.executable}")
    cluster = read_cluster(tmp_path, file=path, nodes=4, time=None)
    assert (cluster.nodes, cluster.time, cluster.world_size) == (4, "24:00:00", 32)
