"""The pages of data sets, run as written: every `bash` block in order, in a folder where a miniature stands for the download."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from msvl.data.packed import SPLITS, PackedSet
from tests.helpers.miniatures import write_miniature
from tests.helpers.runs import ROOT, tiny_config

UNZIP = f"""#!/bin/sh
exec {sys.executable} -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[2]).extractall(sys.argv[4])' "$@"
"""
"""For machines without unzip: takes `-q ZIP -d FOLDER`."""

TEXT = {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32, "mask_ratio": 0.3}


def blocks(page: str) -> list[str]:
    return re.findall(
        r"^```bash\n(.*?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def run_page(page: str, folder: Path, tokenizer: Path) -> None:
    """Run the blocks with `msvl` on the path, and a toy model under the name of the shipped configuration."""
    programs = folder / "bin"
    programs.mkdir()
    _program(programs / "msvl", f'#!/bin/sh\nexec {sys.executable} -m msvl.cli "$@"\n')
    if not shutil.which("unzip"):
        _program(programs / "unzip", UNZIP)
    (folder / "configs" / "pretrain").mkdir(parents=True)
    tiny_config(
        folder / "configs" / "pretrain" / "mimic_cxr.yaml", data=Path("shards/mimic"), runs=Path("runs"), name="mimic_cxr",
        train={"steps": 2, "save_every": 2}, model={"text": TEXT | {"tokenizer": str(tokenizer)}},
    )  # fmt: skip
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    for block in blocks(page):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def tokenizer(tiny_set: Path) -> Path:
    folder = PackedSet.open(tiny_set).tokenizer_path
    assert folder is not None
    return folder


@pytest.mark.ranks
@pytest.mark.evidence(
    "docs/mimic.md, every command run as written on a miniature, ends with the first table", how="gloo"
)
def test_mimic(tmp_path: Path, tokenizer: Path) -> None:
    write_miniature("ms-cxr", tmp_path / "physionet.org" / "files", train=24, val=8, test=8)
    shutil.rmtree(tmp_path / "physionet.org" / "files" / "mimic-cxr" / "2.1.0" / "mimic-cxr-reports")
    run_page("mimic.md", tmp_path, tokenizer)
    results = json.loads((tmp_path / "runs" / "mimic_cxr" / "results.json").read_text())
    assert results
    told = (tmp_path / "runs" / "mimic_cxr" / "evaluation" / "ms-cxr-test-grounding.json").read_text()
    assert "cnr" in json.loads(told)["figures"]["grounding"]
    mimic, phrases = (PackedSet.open(tmp_path / "shards" / name) for name in ("mimic", "ms-cxr"))
    assert not set(_patients(mimic)) & set(_patients(phrases)), "--without keeps the patients of MS-CXR out"


@pytest.mark.ranks
@pytest.mark.evidence(
    "docs/rexgradient.md, every command run as written on a miniature, ends with the first table", how="gloo"
)
def test_rexgradient(tmp_path: Path, tokenizer: Path) -> None:
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed")
    write_miniature("rexgradient", tmp_path, train=24, val=8, test=8)
    shutil.rmtree(tmp_path / "ReXGradient-160K" / "deid_png")
    run_page("rexgradient.md", tmp_path, tokenizer)
    told = json.loads(
        (tmp_path / "runs" / "rexgradient" / "evaluation" / "rexgradient-test-retrieval.json").read_text()
    )
    assert "report_r5" in told["figures"]["retrieval"]


def _patients(packed: PackedSet) -> list[int]:
    splits = [packed.split(name) for name in SPLITS if packed.counts(name)["samples"]]
    return [int(row["patient"]) for index in splits for row in index.records]
