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
            values = dict(word.split("=", 1) for word in words if "=" in word)
            (Path(values["run.folder"]) / values["run.name"]).mkdir(parents=True)
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


def arguments(tmp_path: Path, *, again: bool = False, real: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(
        seed=0, again=again, real=real, shards=tmp_path / "shards", runs=tmp_path / "runs", overrides=[]
    )


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


def test_real_radiographs_go_through_the_same_phases(typed: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").touch()
    assert quickstart.run(arguments(tmp_path, real=tmp_path)) == 0
    assert [words[0] for words in typed] == ["data", "train", "evaluate", "report"]
    assert typed[0][:3] == ["data", "pack", "table"]
    assert typed[1][1].endswith("covid_cxr.yaml")


def test_absent_real_radiographs_are_skipped_with_a_line(
    typed: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quickstart.run(arguments(tmp_path, real=tmp_path / "none")) == 0
    assert typed == []
    assert "skipped: " in capsys.readouterr().err
