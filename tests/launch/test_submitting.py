"""What is typed on a login node: --dry-run prints the script that sbatch gets, and what a job will lack is said before it queues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.requirements import PACKAGES
from tests.helpers.runs import ROOT
from tests.integration.conftest import tiny_set  # noqa: F401 - the same fixture
from tests.launch.login_node import LoginNode


@pytest.fixture
def login(tmp_path: Path, tiny_set: Path) -> LoginNode:  # noqa: F811
    return LoginNode.make(tmp_path, tiny_set)


def trained(login: LoginNode) -> None:
    """Make the folder of a run that was trained."""
    model = login.root / "runs" / "tiny" / "checkpoints" / "step-00000008" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").touch()
    (model.parent / "COMPLETE").write_text("{}")


def written_sweep(login: LoginNode) -> str:
    sweep = {"name": "two", "base": "configs/tiny.yaml", "grid": {"train.seed": [0, 1, 2]}, "parallel": 2}
    (login.root / "configs" / "sweep" / "two.yaml").write_text(yaml.safe_dump(sweep))
    return "configs/sweep/two.yaml"


@pytest.mark.evidence(
    "`--dry-run` of every launcher prints the very script that is then submitted, from a Python that has only what launchers need",
    how="cpu",
)
@pytest.mark.parametrize("launcher", ["pretrain", "evaluate", "sweep", "pack", "accept"])
def test_the_dry_run_is_what_is_submitted(launcher: str, login: LoginNode) -> None:
    words = {
        "pretrain": ["train.steps=4"],
        "evaluate": ["runs/tiny"],
        "sweep": ["start", written_sweep(login)],
        "pack": ["--parts", "2", "phantom", "--out", "shards/new"],
        "accept": ["--out", "runs/accepted"],
    }[launcher]
    if launcher == "evaluate":
        trained(login)
    shown = login.type(f"launch.{launcher}", *words, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert login.submitted() == []
    done = login.type(f"launch.{launcher}", *words)
    assert done.returncode == 0, done.stderr
    assert login.submitted()[0].strip() == shown.stdout.strip()
    last = len(login.submitted())
    assert done.stdout.strip() == str(last)
    if launcher == "sweep":
        assert "#SBATCH --array=0-2%2\n" in shown.stdout, "two runs at once"
        assert "export WANDB_RUN_GROUP=two\n" in shown.stdout
        assert f"python -m launch.sweep status {words[1]}" in done.stderr


def test_the_tables_of_jobs_need_no_more(login: LoginNode) -> None:
    """They run outside any container, by LAUNCH_PYTHON."""
    trained(login)
    code = "from launch.evaluation_table import TableJob; print(TableJob('runs/tiny', ())())"
    table = login.python("-c", code)
    assert table.returncode == 0, table.stderr
    code = f"from launch.sweep_state import *; print(SummaryJob(read_sweep({written_sweep(login)!r}))())"
    (login.root / "runs" / "two").mkdir()
    summary = login.python("-c", code)
    assert summary.returncode == 0, summary.stderr
    assert (login.root / "runs" / "two" / "summary.png").is_file()


def test_the_dashboard_says_that_it_needs_another_python(login: LoginNode) -> None:
    done = login.type("launch.dashboard", "configs/pretrain/mimic_cxr.yaml", "--dry-run")
    assert done.returncode == 2
    assert f"{sys.executable} lacks wandb_workspaces: type this with .venv/bin/python" in done.stderr


def test_weights_that_a_job_would_lack_are_named_before_it_queues(login: LoginNode) -> None:
    done = login.type("launch.pretrain", "model.text.weights=team/bert")
    assert done.returncode == 2
    assert "model.text.weights 'team/bert' is not in " in done.stderr
    assert "type `msvl fetch CONFIG --cache " in done.stderr
    assert login.submitted() == []


@pytest.mark.evidence("That an option needs a compiler on the nodes is said before the job queues", how="cpu")
def test_an_option_that_needs_a_compiler_is_told(login: LoginNode) -> None:
    done = login.type("launch.pretrain", "zero.stage=2", "zero.offload=cpu")
    assert done.returncode == 0, done.stderr
    compiler, job = done.stderr.index("need g++ (and nvcc with GPUs)"), done.stderr.index("submitted job")
    assert compiler < job
    assert "g++" not in login.type("launch.pretrain", "run.name=other").stderr


def test_a_batch_that_does_not_fit_the_ranks_is_refused_in_a_dry_run_too(login: LoginNode) -> None:
    done = login.type("launch.pretrain", "train.global_batch=9", "--nodes", "2", "--dry-run")
    assert done.returncode == 2
    assert "train.global_batch 9 does not divide over 2 ranks" in done.stderr


@pytest.mark.parametrize("launcher", ["pretrain", "evaluate", "sweep", "pack", "accept"])
def test_here_and_only_printing_are_not_asked_for_together(launcher: str, login: LoginNode) -> None:
    done = login.type(f"launch.{launcher}", "--local", "--dry-run")
    assert done.returncode == 2
    assert "not allowed with argument --local" in done.stderr


def test_a_python_without_the_launchers_packages_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name, *a: None if name == 'submitit' else find(name, *a)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "launch.pretrain"], cwd=ROOT, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"msvl: {sys.executable} (Python 3.") and "lacks submitit: type .venv/bin/python" in line


@pytest.mark.parametrize("example", ["apptainer", "pyxis"])
def test_the_examples_make_a_python_that_has_them(example: str) -> None:
    text = (ROOT / "slurm" / "examples" / f"{example}.env").read_text()
    (line,) = [line for line in text.splitlines() if "pip install" in line]
    assert set(line.partition("pip install ")[2].split()) == set(PACKAGES)
