"""`python -m launch.accept --local`: what `make accept` types, on two real ranks over gloo."""

from __future__ import annotations

import functools
import getpass
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launch import accept as command
from launch.acceptance.checks import CHECKS
from launch.acceptance.configs import FORMS, SHORT
from launch.acceptance.running import accept
from tests.helpers.runs import ROOT, execute

NAMES = ["data", "nodes", "links", "strict", "exact", "kill", "shipped", "open_clip"]


@pytest.mark.ranks
@pytest.mark.evidence(
    "`make accept`: bandwidth, losses and gradients against one process and float64, a kill, pace and memory: one page that holds "
    "no path and no name (short form)",
    how="gloo",
)
def test_the_short_form_accepts_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "accepted"
    done = execute([sys.executable, "-m", "launch.accept", "--local", "--short", "--out", str(folder)], limit=400)
    assert done.code == 0, done.output
    record = json.loads((folder / "acceptance.json").read_text(encoding="utf-8"))
    checks = {check["name"]: check for check in record["checks"]}
    assert list(checks) == NAMES
    verdicts = {name: check["verdict"] for name, check in checks.items()}
    assert {name for name, verdict in verdicts.items() if verdict != "passed"} <= {"open_clip"}, done.output
    assert checks["links"]["found"]["operations"]["all_reduce"] > 0
    cases = checks["exact"]["found"]["cases"]
    assert {(case["stage"], case["precision"]) for case in cases} == {(s, p) for s in (2, 3) for p in ("fp32", "bf16")}
    assert all(set(case["against"]) == {"CPU float64", "one device"} for case in cases)
    worst = max(one["gradient"] for case in cases if case["precision"] == "fp32" for one in case["against"].values())
    assert 0 < worst < 1e-4
    assert checks["exact"]["found"]["collectives"] > 0
    kill = checks["kill"]["found"]
    assert (kill["steps"], kill["loss_difference"], kill["samples_equal"]) == (9, 0.0, True)
    assert 0 < kill["resumed_from_step"] <= kill["killed_after_step"] < kill["steps"]
    shipped = checks["shipped"]["found"]
    assert shipped["step_seconds"] * shipped["pairs_per_second"] == pytest.approx(shipped["global_batch"])
    assert 0 <= shipped["waiting_share"] < 1
    assert shipped["main_gb"] > 0.1
    told = (folder / "acceptance.html").read_text(encoding="utf-8") + json.dumps(record)
    assert str(tmp_path) not in told
    assert os.path.expanduser("~") + "/" not in told
    assert socket.gethostname() not in told
    assert getpass.getuser() == "root" or getpass.getuser() not in told


@pytest.mark.ranks
@pytest.mark.evidence("An acceptance with a popular mistake fails by name and exit code 1", how="gloo")
def test_a_mistake_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    exact = next(replace(check, needs=()) for check in CHECKS if check.name == "exact")
    monkeypatch.setattr(command, "accept", functools.partial(accept, checks=[exact]))
    monkeypatch.setitem(FORMS, "short", replace(SHORT, stages=(2,)))
    folder = tmp_path / "broken"
    code = command.main(["--local", "--short", "--ranks", "2", "--break", "detached-gather", "--out", str(folder)])
    said = capfd.readouterr().err
    assert code == 1, said
    assert "FAILED  Losses and gradients: 2 of 2 cases are wrong; ZeRO-2 in fp32" in said
    assert "NOT accepted" in said
    page = (folder / "acceptance.html").read_text(encoding="utf-8")
    assert "with a planted mistake: detached-gather" in page
    assert "WRONG" in page


def test_a_folder_that_is_there_is_not_overwritten(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert command.main(["--local", "--short", "--out", str(tmp_path)]) == 2
    assert "is there already: name another folder, or remove it" in capfd.readouterr().err


def test_a_mistake_in_the_configuration_is_said_at_once(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert command.main(["--local", "train.stepz=3", "--out", str(tmp_path / "a")]) == 2
    assert "stepz" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()


def test_ranks_that_do_not_fit_the_configuration_are_told_at_once(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert command.main(["--local", "--ranks", "3", "--out", str(tmp_path / "a")]) == 2
    assert "train.global_batch 32 does not divide over 3 ranks" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("named", "gpus", "chosen"),
    [
        (None, 8, "configs/pretrain/mimic_cxr.yaml"),
        (None, 0, "configs/pretrain/quickstart.yaml"),
        ("mine.yaml", 0, "mine.yaml"),
    ],
)
def test_what_is_measured(named: str | None, gpus: int, chosen: str) -> None:
    assert command.choose_config(named, gpus, "configs/pretrain/mimic_cxr.yaml") == chosen


def test_a_page_calls_a_configuration_of_ones_own_by_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert command.shown_name("configs/pretrain/paper.yaml") == "paper"
    assert command.shown_name(str(tmp_path / "secret-project.yaml")) == "of one's own"


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.evidence("`make accept` in its full form on this machine: ZeRO 0 to 3", how="gloo")
def test_the_full_form(tmp_path: Path) -> None:
    folder = tmp_path / "accepted"
    done = execute([sys.executable, "-m", "launch.accept", "--local", "--out", str(folder)], limit=1700)
    assert done.code == 0, done.output
    record = json.loads((folder / "acceptance.json").read_text(encoding="utf-8"))
    checks = {check["name"]: check for check in record["checks"]}
    assert {case["stage"] for case in checks["exact"]["found"]["cases"]} == {0, 1, 2, 3}
    assert checks["shipped"]["found"]["notes"] == ""
