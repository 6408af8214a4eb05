"""Pages of the documentation, run as written: every `bash` block in order, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.runs import ROOT

UNZIP = f"""#!/bin/sh
exec {sys.executable} -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[2]).extractall(sys.argv[4])' "$@"
"""
"""For machines without unzip: takes `-q ZIP -d FOLDER`."""


def blocks(page: str) -> list[str]:
    """Return the `bash` blocks of a page, named from the checkout's root."""
    return re.findall(r"^```bash\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(written: list[str], folder: Path, *, limit: float = 300) -> None:
    """Run blocks in a folder, with `msvl` on the path; each has `limit` seconds."""
    programs = folder / "bin"
    programs.mkdir()
    _program(programs / "msvl", f'#!/bin/sh\nexec {sys.executable} -m msvl.cli "$@"\n')
    if not shutil.which("unzip"):
        _program(programs / "unzip", UNZIP)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    for block in written:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, capture_output=True, text=True, timeout=limit,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
