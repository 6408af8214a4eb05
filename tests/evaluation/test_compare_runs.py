"""`msvl compare` on two runs that were judged by a protocol."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from msvl.cli import main
from msvl.config.errors import DataError
from tests.evaluation.judged_runs import (
    content_of,
    fast_protocol,
    main_debug,
    make_run,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, packed: Path, judged: Path) -> Path:
    run = make_run(tmp_path_factory.mktemp("other"), packed, seed=6)
    words = ["--tasks", "zero_shot,retrieval,linear_probe", "--resamples", "0"]
    assert main(["evaluate", str(run), "--protocol", str(judged.parent / "fast.yaml"), *words]) == 0
    return run


@pytest.mark.evidence(
    "`msvl compare A B` gives paired differences of two models with intervals over patients", how="cpu"
)
def test_two_models_are_paired(judged: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(judged), str(other), "--resamples", "50", "--json", "--name", "phantom-test-fast"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"zero_shot", "retrieval", "linear_probe"}
    mine, theirs = (content_of(run)["figures"]["zero_shot"]["auc_mean"] for run in (judged, other))
    item = found["zero_shot"]["auc_mean"]
    assert (item["first"], item["second"]) == pytest.approx((mine, theirs))
    assert item["interval"][0] <= item["difference"] <= item["interval"][1]
    assert found["linear_probe"]["auc_mean_at_100"]["first"] == pytest.approx(
        content_of(judged)["figures"]["linear_probe"]["auc_mean_at_100"]
    )


def test_a_model_does_not_differ_from_itself(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(judged), str(judged), "--resamples", "20", "--name", "phantom-test-fast"])
    *table, cards = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in table[2:]]
    assert rows and all(row[-1] == "no" and "+0.000" in row for row in rows)
    own = content_of(judged)["cards"]
    assert cards == "Cards: " + ", ".join(f"{card['card']} {card['digest']}" for card in own.values())


def test_different_cards_are_not_compared(judged: Path, packed: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, packed)
    protocol = fast_protocol(tmp_path / "fast.yaml", retrieval={"fold": 10})
    main(["evaluate", str(run), "--protocol", str(protocol), "--tasks", "retrieval", "--resamples", "0"])
    with pytest.raises(DataError, match="retrieval was judged by different cards .* see `msvl protocol diff`"):
        main_debug(["compare", str(judged), str(run), "--name", "phantom-test-fast"])


def test_a_run_without_a_judgement_is_told_how_to_get_one(judged: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="has no judgement by a protocol: make one by msvl evaluate .* --protocol clean"
    ):
        main_debug(["compare", str(tmp_path), str(judged)])
