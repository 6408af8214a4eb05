"""The page of an acceptance: what it tells, and what it must not tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launch.acceptance.page import DATA, PAGE, as_record, render, write_page
from launch.acceptance.results import Result
from msvl.config.errors import ClusterError
from tests.launch.acceptance.findings import EXACT, FACTS, KILL, passed

SECRETS = ("/scratch/jdoe/runs", "jdoe", "gpu-07", "example.org", "10.0.3.17")


def pages(folder: Path) -> str:
    return (folder / PAGE).read_text(encoding="utf-8") + (folder / DATA).read_text(encoding="utf-8")


def test_it_tells_what_was_found(tmp_path: Path) -> None:
    write_page(tmp_path, passed(), FACTS)
    record = json.loads((tmp_path / DATA).read_text(encoding="utf-8"))
    assert record["accepted"] is True
    assert record["machine"]["gpu"] == "NVIDIA H100 80GB HBM3"
    assert {check["name"] for check in record["checks"]} == {result.name for result in passed()}
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    for told in (
        "msvl on 2 x NVIDIA H100 80GB HBM3 (NCCL)",
        "Everything that was run passed.",
        "210.50 GB/s",
        "between nodes",
        "CPU float64",
        "7.0e-06",
        "TF32 is off on both sides",
        "matrix products off, convolutions on",
        "2,345.6",
        "61.20 GB",
        "none: equal to the bit",
        "because open_clip is not installed",
    ):
        assert told in page, told
    assert page == render(record), "the page can be made again from its JSON"


@pytest.mark.evidence(
    "The page of an acceptance holds no path, host name, user name or address, planted ones included", how="cpu"
)
def test_it_tells_no_path_and_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "jdoe")
    monkeypatch.setenv("SLURMD_NODENAME", "gpu-07")
    says = "exit code 1: jdoe@gpu-07.example.org: [Errno 28] No space left: '/scratch/jdoe/runs/x.pt', seen by 10.0.3.17:12001"
    bad = Result("shipped", "The shipped configuration", "failed", says)
    write_page(tmp_path, [*passed()[:4], bad], FACTS, hosts=["gpu-07.example.org", "gpu-08"])
    told = pages(tmp_path)
    assert not [secret for secret in SECRETS if secret in told]
    assert "No space left: &#x27;[path]&#x27;" in told, "what happened is still told"


def test_a_user_called_max_changes_no_word_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ranks")
    write_page(tmp_path, passed(), FACTS, hosts=["equal", "h100"])
    told = pages(tmp_path)
    assert "2 ranks reach each other" in told
    assert "equal to the bit" in told
    assert "NVIDIA H100 80GB HBM3" in told


def test_a_page_that_would_tell_is_not_written(tmp_path: Path) -> None:
    careless = Result("data", "Simulated radiographs", "passed", "packed into /home/jdoe/shards")
    with pytest.raises(ClusterError, match="the page would tell of /home/, so it was not written"):
        write_page(tmp_path, [careless, *passed()[1:]], FACTS)
    assert not list(tmp_path.iterdir())


def test_what_is_no_number_is_told_and_is_still_json(tmp_path: Path) -> None:
    case = EXACT["cases"][0]
    wrong = {**case["against"]["one device"], "loss": None, "right": False, "words": ["total: the value is nan"]}
    exact = {**EXACT, "cases": [{**case, "right": False, "against": {"one device": wrong}}]}
    results = [
        Result("exact", "Losses and gradients", "failed", "1 of 1 cases are wrong", 1.0, exact),
        Result("kill", "A kill", "failed", "losses differ", 1.0, {**KILL, "loss_difference": float("nan")}),
    ]
    write_page(tmp_path, results, FACTS)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "WRONG" in page
    assert ">not a number</td>" in page
    assert json.loads((tmp_path / DATA).read_text(encoding="utf-8"))["accepted"] is False


def test_a_planted_mistake_stands_at_the_top() -> None:
    page = render(as_record(passed(), replace(FACTS, planted="unscaled")))
    assert "with a planted mistake: unscaled" in page.split("What was checked")[0]


def test_a_failure_stands_at_the_top() -> None:
    page = render(as_record([Result("data", "Simulated radiographs", "failed", "no room")], FACTS))
    assert "Not accepted: at least one check failed, or none was run." in page
    assert "no room" in page
