"""The README's own lines: own data from a table to a heat map as written; the GPU lines as far as a CPU can tell."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
from pathlib import Path

import cv2
import pytest
from accelerate.commands.launch import launch_command_parser

from msvl.cli import main
from msvl.data.phantom.miniatures.material import draw_studies
from msvl.training.cli import build_parser
from tests.helpers.pages import blocks, run_blocks
from tests.helpers.runs import ROOT, tiny_config

CONFIG = "configs/pretrain/mimic_cxr.yaml"


def block_with(words: str) -> str:
    (found,) = (block for block in blocks("README.md") if words in block)
    return found


def line_with(words: str) -> list[str]:
    (found,) = (line for line in block_with(words).splitlines() if line.startswith(words))
    return shlex.split(found, comments=True)


@pytest.mark.ranks
@pytest.mark.evidence(
    "The README's lines for own data, run as written on a small table of PNG files, end with a heat map", how="gloo"
)
def test_own_data(tmp_path: Path) -> None:
    (tmp_path / "IMAGES").mkdir()
    with open(tmp_path / "reports.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "text", "patient"])
        for number, study in enumerate(draw_studies(train=60, val=0, test=0, size=64)):
            cv2.imwrite(str(tmp_path / "IMAGES" / f"{number}.png"), study.frontal)
            text = f"FINDINGS: {study.findings}\nIMPRESSION: {study.impression}"
            writer.writerow([f"{number}.png", text, study.patient])
    cv2.imwrite(str(tmp_path / "scan.png"), study.frontal)
    (tmp_path / "configs" / "pretrain").mkdir(parents=True)
    tiny_config(
        tmp_path / "configs" / "pretrain" / "quickstart.yaml", data=Path("elsewhere"), runs=Path("runs"), name="other",
        train={"steps": 2, "save_every": 2}, validation={"samples": 2},
    )  # fmt: skip
    before = set(tmp_path.iterdir())
    run_blocks([block_with("msvl data pack table")], tmp_path)
    (judged,) = (tmp_path / "runs" / "mine" / "evaluation").glob("*.json")
    assert 0 <= json.loads(judged.read_text())["figures"]["retrieval"]["report_r5"] <= 1
    drawn = [path for path in set(tmp_path.iterdir()) - before if path.suffix == ".png"]
    assert len(drawn) == 1
    assert cv2.imread(str(drawn[0])) is not None


def test_the_line_for_gpus_starts_a_rank_per_gpu(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("msvl.training.launch.accelerators", lambda: 8)
    words = line_with("msvl train configs/pretrain/mimic_cxr")
    assert words == ["msvl", "train", CONFIG]
    here = [f"data.path={tiny_set}", "data.target_scale=1", f"run.folder={tmp_path}"]
    no_hub = ["model.image.weights=null", "model.text.weights=null"]
    assert main([*words[1:], "--dry-run", *here, *no_hub]) == 0
    assert "--num_processes 8 " in (printed := capfd.readouterr().err)
    assert f"msvl/train.py --config {CONFIG}" in printed


def test_the_accelerate_line_has_options_that_exist() -> None:
    words = line_with("accelerate launch")
    parsed = launch_command_parser().parse_args(words[2:])
    assert (parsed.num_processes, parsed.training_script) == (8, "msvl/train.py")
    assert (ROOT / parsed.training_script).is_file()
    assert build_parser().parse_args(parsed.training_script_args).config == CONFIG
    assert (ROOT / CONFIG).is_file()


def test_make_takes_keep_torch() -> None:
    assert "`make setup KEEP_TORCH=1`" in (ROOT / "README.md").read_text()
    line = ["make", "--dry-run", "setup", "KEEP_TORCH=1"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "scripts/setup_environment.py" in done.stdout
    assert 'os.environ.get("KEEP_TORCH"' in (ROOT / "scripts" / "setup_environment.py").read_text()


@pytest.mark.parametrize("script", ["pretrain", "evaluate", "sweep"])
def test_the_slurm_lines_name_what_ships(script: str) -> None:
    _, path, *files = line_with(f"sbatch slurm/{script}.sh")
    assert subprocess.run(["bash", "-n", ROOT / path], check=False).returncode == 0
    for file in files:
        assert file.startswith("runs/") or os.path.isfile(ROOT / file)
