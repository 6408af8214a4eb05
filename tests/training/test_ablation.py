"""The ablation: its rows, its pairing, and one short run of two rows from one command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from msvl.cli import main
from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.evaluation.answers import Column
from msvl.training.ablation import FULL, IMAGE_ONLY, ablation_table, add_parsers, rows, summarise
from msvl.training.config import PretrainConfig
from tests.evaluation.judged_runs import pack_phantom
from tests.helpers.runs import ROOT, tiny_config


def weights(overrides: tuple[str, ...]) -> tuple[bool, ...]:
    own = load_config(str(ROOT / "configs/pretrain/quickstart.yaml"), list(overrides), PretrainConfig).objectives
    return tuple(item.weight > 0 for item in (own.global_, own.local, own.instance, own.modality))


def test_the_rows_are_the_papers_seven_and_images_alone() -> None:
    found = {row.name: weights(row.overrides) for row in rows()}
    assert list(found) == [
        "local", "instance", "modality", "local+instance", "local+modality", "instance+modality", FULL, IMAGE_ONLY,
    ]  # fmt: skip
    for name, (global_, *others) in found.items():
        if name != IMAGE_ONLY:
            assert global_
            assert others == [scale in name.split("+") for scale in ("local", "instance", "modality")], name
    assert found[IMAGE_ONLY] == (False, False, False, True)
    alone = next(row for row in rows() if row.name == IMAGE_ONLY)
    own = load_config(str(ROOT / "configs/pretrain/quickstart.yaml"), list(alone.overrides), PretrainConfig).objectives
    assert (own.modality.image_weight, own.modality.text_weight, own.modality.cross_sample_weight) == (1.0, 0.0, 0.0)


def measured(shift: float, seed: int) -> tuple[dict, dict]:
    values = np.random.default_rng(seed).random(60) + shift
    patients = tuple(f"p{number // 2}" for number in range(60))
    column = Column(values, tuple(f"k{number}" for number in range(60)), patients)
    content = {"figures": {"retrieval": {"report_r5": float(values.mean())}}, "cards": {}, "data": {"name": "toy"}}
    return content, {"retrieval": {"report_r5": column}}


def test_differences_are_paired_by_seed_and_patient() -> None:
    made = {(name, seed): measured(shift, seed) for name, shift in ((FULL, 0.5), ("local", 0.4)) for seed in (0, 1, 2)}
    result = summarise(
        {key: content for key, (content, _) in made.items()},
        {key: columns for key, (_, columns) in made.items()},
        resamples=200,
    )
    entry = result["rows"]["local"]["retrieval.report_r5"]
    # Each seed's values are shifted by the same 0.1: paired, there is no noise at all.
    assert entry["difference"] == pytest.approx(-0.1)
    assert entry["interval"] == pytest.approx([-0.1, -0.1])
    assert len(entry["seeds"]) == 3 and entry["mean"] == pytest.approx(np.mean(entry["seeds"]))
    assert "interval" not in result["rows"][FULL]["retrieval.report_r5"]
    table = ablation_table(result)
    assert table.columns == ("scales", "report R@5")
    assert table.rows[1][0] == "global+local" and "(-0.100 [-0.100, -0.100])" in table.rows[1][1]


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers(dest="command"))
    return parser.parse_args(["ablation", "x.yaml", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "0,zero"), "give whole numbers"),
        (("--seeds", "1,1"), "give different numbers"),
        (("--rows", "global"), "the rows are local, instance"),
    ],
)
def test_options_are_checked_before_anything_is_trained(words: tuple[str, ...], message: str) -> None:
    arguments = parse(*words)
    with pytest.raises(ConfigError, match=message):
        arguments.run(arguments)


@pytest.mark.ranks
@pytest.mark.evidence(
    "`msvl ablation` trains, judges and pairs rows of scales from one command, and only reads the second time",
    how="gloo",
)
def test_two_rows_from_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = pack_phantom(tmp_path / "phantom", train=40, val=24, test=24)
    config = tiny_config(
        tmp_path / "tiny.yaml", data=packed, runs=tmp_path, name="tiny", train={"steps": 2, "save_every": 2}
    )
    words = ["ablation", str(config), "--seeds", "0", "--rows", f"{FULL},{IMAGE_ONLY}", "--out", str(tmp_path / "ablation"),
             "--tasks", "zero_shot,retrieval", "--resamples", "20"]  # fmt: skip
    assert main(words) == 0
    assert "images alone (masked)" in capsys.readouterr().out
    result = json.loads((tmp_path / "ablation" / "ablation.json").read_text())
    entry = result["rows"][IMAGE_ONLY]["zero_shot.auc_mean"]
    assert entry["interval"][0] <= entry["difference"] <= entry["interval"][1]
    checkpoints = sorted((tmp_path / "ablation").glob("*/checkpoints/step-*/COMPLETE"))
    stamps = [mark.stat().st_mtime_ns for mark in checkpoints]
    assert len(stamps) == 2
    assert main(words) == 0
    assert [mark.stat().st_mtime_ns for mark in checkpoints] == stamps
    assert json.loads((tmp_path / "ablation" / "ablation.json").read_text()) == result
