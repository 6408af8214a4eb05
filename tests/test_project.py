"""What holds for the project as a whole."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.evidence import TARGET, render

ROOT = Path(__file__).resolve().parents[1]


def test_evidence_page_is_what_the_markers_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run `make evidence`"


@pytest.mark.evidence("`msvl --help` answers within half a second and imports no torch", how="cpu")
def test_help_is_quick_and_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['msvl', '--help']\ntry:\n import msvl.cli; msvl.cli.main()\nexcept SystemExit: pass\nsys.exit(3 if 'torch' in sys.modules else 0)"
    best = 9.0
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
        best = min(best, time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
    assert best < 0.5, f"{best:.2f} s"


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "lint-imports")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_path_of_a_machine_is_tracked() -> None:
    found = subprocess.run(
        ["git", "grep", "-nE", r"(^|[^A-Za-z0-9_.])/(work|tmp|farm|root)/", "--", ":!*.svg"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert found.stdout == "", found.stdout
