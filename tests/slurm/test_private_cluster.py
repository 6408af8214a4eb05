"""The private Slurm itself: nothing of it outlives the process that started it, however that ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT
from tests.slurm.private_cluster import PrivateCluster, until

pytestmark = pytest.mark.slurm


def command_lines(text: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_its_starter(slurm_session: PrivateCluster, end: signal.Signals) -> None:
    folder = Path(tempfile.mkdtemp(prefix="msvl-slurm-"))
    try:
        starter = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.private_cluster", str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert starter.stdout is not None
        assert "SLURM_CONF" in starter.stdout.readline()
        assert len(command_lines(f"-f {folder}/etc/slurm.conf")) >= 3
        starter.send_signal(end)
        starter.wait(30)
        until(lambda: not command_lines(str(folder)), 30, "no process left", lambda: str(command_lines(str(folder))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
