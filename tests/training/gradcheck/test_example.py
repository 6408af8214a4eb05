"""The example of docs/objectives.md, run as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.runs import ROOT


def block(language: str, word: str = "") -> str:
    """Return the first code block of that language on the page that has the word in it."""
    page = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)
    return next(code for code in found if word in code)


@pytest.mark.ranks
@pytest.mark.parametrize("broken", [False, True])
def test_the_pages_objective_is_checked(tmp_path: Path, broken: bool) -> None:
    (tmp_path / "mypkg").mkdir()
    code = block("python")
    if broken:
        # A sum over own rows: the mean over ranks is then not the loss of one process.
        code = code.replace("gap.mean()", "gap.sum()")
        assert code != block("python")
    (tmp_path / "mypkg" / "loss.py").write_text(code)
    tree = yaml.safe_load((ROOT / "configs" / "pretrain" / "mimic_cxr.yaml").read_text())
    tree.setdefault("objectives", {}).update(yaml.safe_load(block("yaml"))["objectives"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    done = subprocess.run(
        [sys.executable, "-m", "msvl.cli", "gradcheck", "config.yaml", "--shrink", "--ranks", "2", "--out", "g.json"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == int(broken), done.stdout + done.stderr
    stored = json.loads((tmp_path / "g.json").read_text())
    wrong = {line["loss"] for line in stored["lines"] if not line["right"]}
    assert "margin" in stored["values"]
    assert ("margin" in wrong) is broken
