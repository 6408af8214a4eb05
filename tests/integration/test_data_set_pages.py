"""The pages of data sets, run as written: every `bash` block in order, in a folder where a miniature stands for the download."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from msvl.data.packed import SPLITS, PackedSet
from tests.helpers.miniatures import write_miniature
from tests.helpers.pages import blocks, run_blocks
from tests.helpers.runs import tiny_config

TEXT = {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32, "mask_ratio": 0.3}


def run_page(page: str, folder: Path, tokenizer: Path) -> None:
    """Run the blocks with a toy model under the name of the shipped configuration."""
    (folder / "configs" / "pretrain").mkdir(parents=True)
    tiny_config(
        folder / "configs" / "pretrain" / "mimic_cxr.yaml", data=Path("shards/mimic"), runs=Path("runs"), name="mimic_cxr",
        train={"steps": 2, "save_every": 2}, model={"text": TEXT | {"tokenizer": str(tokenizer)}},
    )  # fmt: skip
    run_blocks(blocks(f"docs/{page}"), folder)


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
