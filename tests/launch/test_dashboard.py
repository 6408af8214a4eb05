"""The W&B workspace: what is printed, and what is said when something is missing."""

from __future__ import annotations

import json

import pytest

from launch.dashboard import build_workspace, main
from tests.helpers.runs import ROOT

CONFIG = str(ROOT / "configs" / "pretrain" / "mimic_cxr.yaml")


def test_the_dry_run_prints_the_specification_without_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([CONFIG, "wandb.entity=team", "--dry-run"]) == 0
    spec = json.loads(capsys.readouterr().out)
    assert (spec["entity"], spec["project"]) == ("team", "msvl")
    assert list(spec["sections"]) == ["Losses per scale", "Alignment", "Throughput", "Data health"]
    workspace = build_workspace("name", "team", "msvl")
    shown = [(section.name, [panel.y for panel in section.panels]) for section in workspace.sections]
    assert shown == [(name, [p["metrics"] for p in panels]) for name, panels in spec["sections"].items()]


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        ((), "k", "add wandb.entity=NAME"),
        (("wandb.entity=team",), "", "type `wandb login`"),
        (("wandb.enabled=false",), "k", "wandb.enabled: false"),
        (("wandb.entty=team",), "k", "did you mean 'wandb.entity'"),
    ],
)
def test_what_is_missing_is_said(
    words: tuple[str, ...], key: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert main([CONFIG, *words]) == 2
    assert message in capsys.readouterr().err


def test_a_network_that_is_not_there_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    assert main([CONFIG, "wandb.entity=team"]) == 2
    assert "W&B did not take the workspace of team/msvl" in capsys.readouterr().err
