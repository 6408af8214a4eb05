"""The suite that anybody's objective can be put through: it passes what is right, and names each kind of mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from msvl.config.errors import ClusterError, ConfigError
from msvl.training.gradcheck.suite import faults_of
from tests.training.gradcheck.test_example import block

OURS = "tests.training.gradcheck.objectives"

pytestmark = pytest.mark.ranks


@pytest.mark.evidence("An objective of one's own passes the suite that the shipped ones pass, by one call", how="gloo")
def test_an_objective_that_is_right_has_no_faults() -> None:
    assert faults_of(f"{OURS}:Ranking", {"margin": 0.3}) == []


def test_the_pages_objective_and_its_test_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "loss.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        page: dict[str, object] = {}
        exec(block("python", "faults_of"), page)  # the test on the page, as it is written there
        test = page["test_margin"]
        assert callable(test)
        test()
    finally:
        for name in ("mypkg", "mypkg.loss"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Summed", ("2 ranks, none duplicates: objective: the value is", "2 ranks, lonely duplicates: total: image gradients x 0.50")),
        ("RankLocal", ("the value is", "gradients point elsewhere")),
        ("DetachedGather", ("2 ranks, none duplicates: total: image gradients are exact, text gradients point elsewhere",)),
        ("LocalMetric", ("metric/pairs: the value is 4 on 2 ranks and 8 on one",)),
    ],
)  # fmt: skip
def test_what_ranks_change_is_named(kind: str, words: tuple[str, ...]) -> None:
    found = "\n".join(faults_of(f"{OURS}:{kind}", ranks=(2,)))
    for part in words:
        assert part in found, found


def test_a_collective_of_one_rank_is_named() -> None:
    with pytest.raises(ClusterError, match="differs between ranks.*objectives.py"):
        faults_of(f"{OURS}:OneRankTalks", ranks=(2,))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Filtering", "it looks at values or mixes devices"),
        ("WrongBackward", "its gradient says a slope of"),
        ("Cut", "its loss carries no gradient"),
        ("OfEveryPair", "its loss has the shape [8], expected a scalar"),
        ("OfEveryPair", "metric worst: expected one number without gradient"),
        ("BareTensor", "its forward returned Tensor, expected a ScaleOutput"),
    ],
)
def test_what_one_process_shows_is_named(kind: str, words: str) -> None:
    found = faults_of(f"{OURS}:{kind}", ranks=())
    assert any(words in fault for fault in found), found


def test_what_cannot_be_imported_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        faults_of("nowhere.at:All")
