"""Where ranks run: limits, warnings, ports, and the line that says what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.acceptance.places import Interrupted, JobNodes, ThisMachine, signal_group, wait_within, what_happened
from launch.signals import Signals
from tests.helpers.runs import until


def sleeper(*words: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-c", "import time; time.sleep(60)", *words]
    return subprocess.Popen(line, start_new_session=True)


def test_a_process_that_ends_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("msvl: there is no such key\n")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"], start_new_session=True)
    ended = wait_within(process, log, 30, lambda number: signal_group(process.pid, number))
    assert (ended.code, ended.why()) == (2, "exit code 2: msvl: there is no such key")


def test_a_limit_ends_a_process_and_what_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("step 3\n")
    child_file = tmp_path / "child"
    code = "import pathlib, subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    code += f"pathlib.Path({str(child_file)!r}).write_text(str(child.pid)); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    until(lambda: child_file.is_file() and child_file.read_text())
    ended = wait_within(process, log, 0.1, lambda number: signal_group(process.pid, number))
    assert ended.code is None
    assert ended.why() == "not done within 0 s; the last that it said: step 3"
    child = Path(f"/proc/{child_file.read_text()}/stat")
    until(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z", limit=10)


@pytest.mark.parametrize("told", ["warned", "ended"])
def test_what_slurm_says_stops_the_wait_at_once(tmp_path: Path, told: str) -> None:
    (tmp_path / "log").write_text("")
    signals = Signals()
    setattr(signals, told, True)
    process = sleeper()
    began = time.monotonic()
    wait_within(process, tmp_path / "log", 50, lambda number: signal_group(process.pid, number), signals)
    assert time.monotonic() - began < 10
    assert process.poll() is not None


class HereNodes(JobNodes):
    """A job whose srun is a process of this machine."""

    def _stop(self, step: subprocess.Popen[bytes], number: int) -> None:
        step.send_signal(number)


class HereTraining:
    def srun(self, words, nodes, tasks, output=None) -> subprocess.Popen[bytes]:
        return sleeper()


def test_a_warning_is_no_time_limit_of_a_check(tmp_path: Path) -> None:
    signals = Signals()
    signals._warn(signal.SIGUSR2, None)
    place = HereNodes(HereTraining(), "17", 0, ["n1"], signals)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        place.process(["-c", "pass"], tmp_path / "log", seconds=60)


def test_starts_meet_at_ports_of_their_own(tmp_path: Path) -> None:
    place = ThisMachine(ranks_per_node=2, gpus=0, code=tmp_path)
    ports = [place._port() for _ in range(8)]
    assert len(set(ports)) == 8
    assert all(port < 32768 for port in ports), "Linux gives those above to anybody who connects"


def test_later_starts_of_a_job_meet_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.acceptance.places.scontrol.node_addresses", lambda names: {"localhost": "127.0.0.1"})
    found = set()
    for restart in range(5):
        place = JobNodes(None, "4711", restart, ["localhost"], Signals())  # type: ignore[arg-type]
        found |= {place._meeting().port for _ in range(12)}
    assert len(found) == 60, "a port that an orphan of an earlier start may hold is taken again"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("noise\nmsvl: the disk is full\nexitcode: 1\n", "msvl: the disk is full"),
        ("Traceback\nRuntimeError: it broke\ntorch.distributed.elastic ChildFailedError: \nRoot Cause\n", "RuntimeError: it broke"),
        ("one line\n", "one line"),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_the_line_that_says_what_happened(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "log").write_text(text)
    assert what_happened(tmp_path / "log") == line


def test_ranks_hear_of_no_launcher_around_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "7")
    place = ThisMachine(ranks_per_node=1, gpus=0, code=Path.cwd())
    code = "import os; print(os.environ.get('RANK'), os.environ['HF_HUB_OFFLINE'])"
    ended = place.process(["-c", code], tmp_path / "log", seconds=30)
    assert ended.good
    assert (tmp_path / "log").read_text().split() == ["None", "1"]
    assert os.environ["RANK"] == "7"
