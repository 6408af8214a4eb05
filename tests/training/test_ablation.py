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
from msvl.evaluation.protocol import read_protocol
from msvl.training.ablation import TASKS, add_parsers, rows
from msvl.training.ablation_table import (
    FULL,
    IMAGE_ONLY,
    SCALES,
    ablation_table,
    adds_table,
    page,
    sentences,
    summarise,
    verdict,
)
from msvl.training.ablation_work import RowFailed
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
    content = {
        "figures": {"retrieval": {"report_r5": float(values.mean())}},
        "cards": {"retrieval": {"card": "ablation/retrieval/any", "digest": "abc"}},
        "data": {"name": "toy", "images": 60, "patients": 30, "split": "test"},
    }
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


def test_every_seed_is_paired_with_itself() -> None:
    gains = {0: 0.1, 1: 0.2, 2: 0.6}
    made = {(name, seed): measured(gains[seed] if name == FULL else 0.0, seed) for name in (FULL, "local") for seed in gains}  # fmt: skip
    result = summarise(
        {key: content for key, (content, _) in made.items()},
        {key: columns for key, (_, columns) in made.items()},
        resamples=50,
    )
    entry = result["rows"]["local"]["retrieval.report_r5"]
    assert entry["seed_differences"] == pytest.approx([-0.1, -0.2, -0.6])
    assert entry["difference"] == pytest.approx(-0.3)
    assert entry["interval"] == pytest.approx([-0.3, -0.3])


def whole(gains: dict[str, float], noise: float = 0.0) -> dict:
    """Summarise all eight rows in which every scale adds its gain, with a luck of training per row and seed."""
    luck = np.random.default_rng(3)
    made = {}
    for row in rows():
        gain = sum(gains.get(scale, 0.0) for scale in row.name.split("+"))
        for seed in (0, 1, 2):
            made[row.name, seed] = measured(gain + noise * luck.normal(), seed)
    return summarise(
        {key: content for key, (content, _) in made.items()},
        {key: columns for key, (_, columns) in made.items()},
        resamples=100,
    )


def test_what_a_scale_adds_is_the_mean_over_its_three_pairs() -> None:
    result = whole({"local": 0.2, "instance": -0.1, "image-only": -0.4})
    added = {scale: own["retrieval.report_r5"] for scale, own in result["adds"].items()}
    assert [added[scale]["difference"] for scale in SCALES] == pytest.approx([0.2, -0.1, 0.0])
    assert [verdict(added[scale]) for scale in SCALES] == ["better", "worse", "tie"]
    assert added["local"]["seed_differences"] == pytest.approx([0.2] * 3)
    assert sentences(result) == [
        "Adding the local scale: better in report R@5.",
        "Adding the instance scale: worse in report R@5.",
        "Adding the modality scale: a tie in report R@5.",
        "Images alone against all scales: worse in report R@5.",
    ]
    table = adds_table(result)
    assert table.rows[0] == ("local", "+0.200 [+0.200, +0.200] better")


def test_seeds_that_disagree_are_a_tie_however_narrow_the_interval() -> None:
    entry = {"interval": [0.01, 0.02], "seed_differences": [0.02, -0.01, 0.03]}
    assert verdict(entry) == "tie"
    assert verdict(entry | {"seed_differences": [0.02, 0.01, 0.03]}) == "better"
    assert verdict(entry | {"seed_differences": [0.02], "interval": [-0.01, 0.02]}) == "tie"


def test_the_page_says_what_it_says_and_what_not() -> None:
    text = page(whole({"local": 0.2}, noise=0.01), "msvl ablation x.yaml")
    for words in (
        "## What it says",
        "## What it does not say",
        "msvl ablation x.yaml",
        "ablation/retrieval/any abc",
        "global+local |",
    ):
        assert words in text


def test_the_ablation_has_cards_for_its_tasks() -> None:
    protocol = read_protocol("ablation")
    cards = [protocol.card(task, "phantom") for task in TASKS]
    assert all(card.seeds == (0,) for card in cards)  # the seeds are those of pretraining


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
        (("--parallel", "0"), "--parallel 0: give 1 or more"),
        (("--at-most", "0"), "--at-most 0: give 1 or more"),
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
             "--tasks", "zero_shot,retrieval", "--resamples", "20", "--page", str(tmp_path / "page.md")]  # fmt: skip
    assert main([*words, "--at-most", "1"]) == 0  # in pieces
    said = capsys.readouterr()
    assert "1 of 2 cells are left, the next is image-only-seed0" in said.err and not said.out
    assert main(words) == 0
    said = capsys.readouterr()
    assert "2 cells, 1 of them finished before" in said.err
    assert "images alone (masked)" in said.out
    result = json.loads((tmp_path / "ablation" / "ablation.json").read_text())
    entry = result["rows"][IMAGE_ONLY]["zero_shot.auc_mean"]
    assert entry["interval"][0] <= entry["difference"] <= entry["interval"][1]
    assert (tmp_path / "page.md").read_text() == (tmp_path / "ablation" / "ablation.md").read_text()
    checkpoints = sorted((tmp_path / "ablation").glob("*/checkpoints/step-*/COMPLETE"))
    results = sorted((tmp_path / "ablation").glob("*/evaluation/ablation.json"))
    stamps = [mark.stat().st_mtime_ns for mark in (*checkpoints, *results)]
    assert len(stamps) == 4
    assert main(words) == 0
    assert "2 cells, 2 of them finished before" in capsys.readouterr().err
    assert [mark.stat().st_mtime_ns for mark in (*checkpoints, *results)] == stamps
    assert json.loads((tmp_path / "ablation" / "ablation.json").read_text()) == result
    # Rows that were trained otherwise are not read for these.
    with pytest.raises(ConfigError, match=r"seed0 was begun with another optimizer.lr: give .* with --out"):
        main([*words, "optimizer.lr=0.5", "--debug"])
    assert [mark.stat().st_mtime_ns for mark in (*checkpoints, *results)] == stamps


def test_a_row_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "tiny.yaml", data=tmp_path / "nowhere", runs=tmp_path, name="tiny")
    words = ["ablation", str(config), "--seeds", "0", "--out", str(tmp_path / "out"), "--parallel", "2", "--debug"]
    with pytest.raises(RowFailed, match=r"exit code 2, see .*local-seed0.log.* repeat `msvl ablation` to go on"):
        main(words)
    assert "nowhere" in (tmp_path / "out" / "local-seed0.log").read_text()
