"""What a judgement by a protocol leaves beside its figures: tables, a page, subgroups, a gallery."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

from msvl.cli import main
from msvl.evaluation.detail_tables import CLASSIFIERS
from msvl.evaluation.render import BOX_COLOUR
from msvl.evaluation.tables import spoken
from tests.evaluation.judged_runs import (
    content_of,
    fast_protocol,
    wandb_content,
)

torch.set_num_threads(1)
HEADLINES = {
    "zero_shot": "auc_mean", "retrieval": "report_r5", "grounding": "miou", "linear_probe": "auc_mean_at_100",
    "fine_tuned": "auc_mean_at_100", "segmentation": "dice_image_at_100",
}  # fmt: skip


def test_tables_stand_in_four_formats_and_mark_what_others_reported(judged: Path) -> None:
    folder = judged / "evaluation" / "phantom-test-fast-tables"
    text = (folder / "tables.md").read_text()
    own = [line for line in text.splitlines() if line.startswith("| **fine-tuned**")]
    assert len(own) == 1 and "card fast/fine_tuned/any" in own[0]
    theirs = [line for line in text.splitlines() if line.startswith("| paper's method")]
    assert theirs and all("reported by others" in line for line in theirs)
    rows = list(csv.reader((folder / "tables.csv").open()))
    assert {row[0] for row in rows} >= {"Classification, AUC (%)", "Retrieval (%)"}
    tex = (folder / "tables.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") >= 5
    assert r"1 \%" in tex
    page = (folder / "tables.html").read_text()
    assert page.count("<svg") >= 2 and "http:" not in page and "https:" not in page


def test_the_tables_are_a_page_of_documentation(judged: Path, tmp_path: Path) -> None:
    words = [
        "--protocol",
        str(judged.parent / "fast.yaml"),
        "--tasks",
        "retrieval",
        "--resamples",
        "0",
        "--name",
        "paged",
    ]
    assert main(["evaluate", str(judged), *words, "--page", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# paged\n\nMade by this command:\n\n```bash\nmsvl ")
    assert "| **report for an image** |" in text and "retrieval: card fast/retrieval/any" in text


def test_subgroups_are_judged_where_the_data_say_them(judged: Path) -> None:
    groups = content_of(judged)["subgroups"]
    assert set(groups) == set(CLASSIFIERS)
    for task, own in groups.items():
        assert {name.partition(":")[0] for name in own} == {"sex", "age", "view", "race"}, task
        assert {"sex: F", "sex: M", "view: PA", "view: AP", "race: A", "race: B"} <= set(own)
        assert own["sex: F"]["images"] + own["sex: M"]["images"] == 48
        figure = "auc_mean" if task == "zero_shot" else "auc_mean_at_100"
        assert 0 <= own["sex: F"][figure] <= 1 and len(own["sex: F"][f"{figure}_interval"]) == 2
    folder = judged / "evaluation" / "phantom-test-fast-tables"
    text, page = (folder / "tables.md").read_text(), (folder / "tables.html").read_text()
    assert "linear probe: card fast/linear_probe/any" in text and "by patient; means over 2 seeds\n" in text
    assert "| group | images | patients | AUC, 10 % | AUC, 100 % |" in text
    for task in CLASSIFIERS:
        assert f"## Subgroups, {spoken(task)}, AUC (%); card" in text
        assert f"{spoken(task)}: mean AUC by group, dashed: all images" in page


def test_every_classifier_is_calibrated_in_a_table_and_a_plot(judged: Path) -> None:
    folder = judged / "evaluation" / "phantom-test-fast-tables"
    text, page = (folder / "tables.md").read_text(), (folder / "tables.html").read_text()
    table = text[text.index("## Calibration, after Platt scaling on val") :].split("\n## ")[0]
    figures = content_of(judged)["figures"]
    for task in CLASSIFIERS:
        shares = [""] if task == "zero_shot" else ["_at_10", "_at_100"]
        for share in shares:
            said = spoken(task) + (f", {share.removeprefix('_at_')} % of the labels" if share else "")
            (row,) = [line for line in table.splitlines() if line.startswith(f"| {said} |")]
            assert f"| {figures[task][f'brier{share}']:.3f} | {figures[task][f'calibration_error{share}']:.3f} |" in row
        assert f"{spoken(task)}: what was said and what happened" in page


def test_the_gallery_stays_in_the_run_folder(judged: Path) -> None:
    folder = judged / "evaluation" / "phantom-test-fast-gallery"
    pictures = list(folder.glob("grounding-*.png"))
    assert len(pictures) == 8
    assert {cv2.imread(str(picture)).shape for picture in pictures} == {(64, 64, 3)}  # the stored images' own
    assert "looked elsewhere" in (folder / "index.html").read_text()
    assert not [path for path in judged.rglob("*.png") if path.parent != folder]


@pytest.mark.parametrize("task", CLASSIFIERS)
def test_errors_of_every_classifier_are_shown_under_a_heat_map_with_boxes(judged: Path, task: str) -> None:
    folder = judged / "evaluation" / "phantom-test-fast-gallery"
    pictures = [cv2.imread(str(path)).astype(int) for path in folder.glob(f"{task}-missed-*.png")]
    assert pictures and f"{spoken(task)}: overlooked" in (folder / "index.html").read_text()
    for picture in pictures:
        coloured = (picture.max(axis=2) - picture.min(axis=2)) > 10  # of a grey picture with a box a thin line would be
        assert coloured.mean() > 0.2
    boxes = [np.abs(picture - BOX_COLOUR).max(axis=2) < 8 for picture in pictures]
    assert all(box.any() for box in boxes)


def test_an_image_encoder_alone_shows_its_errors_without_heat_maps(packed: Path, tmp_path: Path) -> None:
    vit = ViTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48, image_size=64, patch_size=16
    )
    ViTModel(vit, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    file = tmp_path / "theirs.yaml"
    file.write_text(f"format: huggingface\npath: {tmp_path / 'vit'}\nimage_size: 64\n")
    protocol = fast_protocol(tmp_path / "fast.yaml")
    words = ["--data", str(packed), "--protocol", str(protocol), "--tasks", "linear_probe", "--resamples", "0"]
    assert main(["evaluate", str(file), *words]) == 0
    folder = tmp_path / "theirs-evaluation" / "phantom-test-fast-gallery"
    picture = cv2.imread(str(next(folder.glob("linear_probe-missed-*.png")))).astype(int)
    assert 0 < ((picture.max(axis=2) - picture.min(axis=2)) > 10).mean() < 0.2
    assert "Heat maps" not in (folder / "index.html").read_text()


def test_the_runs_report_shows_the_tables_with_their_cards(judged: Path) -> None:
    assert main(["report", str(judged)]) == 0
    page = (judged / "report.html").read_text()
    link = "evaluation/phantom-test-fast-tables/tables.html"
    assert f'<a href="{link}">' in page and (judged / link).is_file()
    cards = content_of(judged)["cards"]
    for task, title in (
        ("fine_tuned", "fine-tuned"),
        ("segmentation", "pooled, with background"),
        ("grounding", "mean over pairs"),
    ):
        row = next(line for line in re.findall("<tr>.*?</tr>", page, re.DOTALL) if title in line)
        assert f"card {cards[task]['card']} {cards[task]['digest']}" in row
    assert "by protocol fast, whose cards are named below" in page and "On other data" not in page


def test_figures_go_to_the_training_runs_own_page(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = Path(shutil.copytree(judged, tmp_path / "run"))
    (run / "wandb").mkdir(exist_ok=True)
    (run / "wandb" / "run-id").write_text("abcd1234\n")
    words = ["--protocol", str(judged.parent / "fast.yaml"), "--resamples", "0", "--name", "mine"]
    assert main(["evaluate", str(run), *words]) == 0
    (made,) = run.glob("**/*.wandb")
    assert made.name == "run-abcd1234.wandb"
    content = wandb_content(made, "evaluation/mine/segmentation.dice_image_at_100")
    for task, figure in HEADLINES.items():
        assert f"evaluation/mine/{task}.{figure}".encode() in content, task
