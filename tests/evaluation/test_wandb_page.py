"""Figures on the run's own W&B page."""

from __future__ import annotations

from pathlib import Path

import pytest

from msvl.evaluation.wandb_page import flat_summary, mirror_figures
from tests.evaluation.judged_runs import wandb_content

FIGURES = {"zero_shot": {"auc_mean": 0.8, "auc_mean_interval": [0.7, 0.9], "prompts": "maco", "positives": {"a": 3}}}


def test_single_figures_go_to_the_summary_and_no_words() -> None:
    assert flat_summary("phantom-test-clean", FIGURES) == {"evaluation/phantom-test-clean/zero_shot.auc_mean": 0.8}


def test_a_run_without_a_page_gets_none(tmp_path: Path) -> None:
    assert not mirror_figures(tmp_path, "x", FIGURES)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_page_is_continued_under_its_own_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run-id").write_text("abcd1234\n")
    (tmp_path / "config.yaml").write_text("wandb: {project: msvl-test}\n")
    assert mirror_figures(tmp_path, "phantom-test-clean", FIGURES)
    (made,) = [path for path in tmp_path.glob("**/*.wandb")]
    assert made.name == "run-abcd1234.wandb"
    name = "evaluation/phantom-test-clean/zero_shot.auc_mean"
    assert name.encode() in wandb_content(made, name)
