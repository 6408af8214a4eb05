"""The quickstart runs the commands that a user types, and nothing twice."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from msvl.training import quickstart


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def record(words: list[str], seconds: dict[str, float], phase: str) -> None:
        commands.append(words)
        seconds[phase] = 1.0
        if words[0] == "train":
            folder = next(word.partition("=")[2] for word in words if word.startswith("run.folder="))
            (Path(folder) / "quickstart").mkdir(parents=True)
        if words[0] == "report":
            Path(words[1], "report.html").write_text("page")
            figures = dict.fromkeys(
                ("auc_mean", "auc_mean_untrained", "report_r5", "report_r5_chance", "cnr", "cnr_untrained"), 0.5
            )
            import json

            tasks = dict.fromkeys(("zero_shot", "retrieval", "grounding", "linear_probe"), figures)
            Path(words[1], "results.json").write_text(json.dumps({**tasks, "seconds": {"total": 60.0}}))

    monkeypatch.setattr(quickstart, "_msvl", record)
    return commands


def arguments(tmp_path: Path, *, again: bool = False) -> argparse.Namespace:
    return argparse.Namespace(seed=0, again=again, shards=tmp_path / "shards", runs=tmp_path / "runs", overrides=[])


def test_phases_come_in_order(typed: list[list[str]], tmp_path: Path) -> None:
    assert quickstart.run(arguments(tmp_path)) == 0
    assert [words[0] for words in typed] == ["data", "data", "train", "evaluate", "evaluate", "report"]


def test_a_finished_quickstart_does_nothing(typed: list[list[str]], tmp_path: Path) -> None:
    quickstart.run(arguments(tmp_path))
    count = len(typed)
    assert quickstart.run(arguments(tmp_path)) == 0
    assert len(typed) == count


def test_again_moves_the_old_run_aside(typed: list[list[str]], tmp_path: Path) -> None:
    quickstart.run(arguments(tmp_path))
    assert quickstart.run(arguments(tmp_path, again=True)) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
