"""A judgement by a protocol is read again, and the same on any number of ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from msvl.evaluation import exam
from msvl.evaluation.protocol_command import TASKS
from tests.evaluation.judged_runs import (
    content_of,
    fast_protocol,
    judge,
    make_run,
)
from tests.helpers.ranks import run_ranks

torch.set_num_threads(1)


def test_a_second_judgement_only_reads(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded again")

    before = content_of(judged)["figures"]
    monkeypatch.setattr(exam, "encode_images", broken)
    files = sorted((judged / "evaluation" / "cache").rglob("*.npz"))
    stamps = [file.stat().st_mtime_ns for file in files]
    again = judge(judged, judged.parent / "fast.yaml")
    assert [file.stat().st_mtime_ns for file in files] == stamps
    assert again["fine_tuned"]["auc_mean"] == before["fine_tuned"]["auc_mean"]
    assert again["zero_shot"]["auc"] == before["zero_shot"]["auc"]


def test_another_card_trains_anew_on_the_same_features(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(judged, tmp_path / "copy"))
    monkeypatch.setattr(exam, "encode_images", lambda *_, **__: pytest.fail("features were extracted again"))
    before = len(list((run / "evaluation" / "cache").rglob("linear_probe-*.npz")))
    other = fast_protocol(tmp_path / "other.yaml", linear_probe={"ratios": ["100"]})
    judge(run, other, tasks=("linear_probe",))
    assert len(list((run / "evaluation" / "cache").rglob("linear_probe-*.npz"))) == before + 2


def numbers(tree: object, path: str = "") -> dict[str, float]:
    """Return every float below, by path."""
    if isinstance(tree, float):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {name: value for key, item in items for name, value in numbers(item, f"{path}.{key}").items()}


@pytest.mark.ranks
@pytest.mark.evidence("Judgement by a protocol on 1 and on 4 ranks is equal to 1e-6", how="gloo")
def test_one_and_four_ranks_find_the_same(judged: Path, packed: Path, tmp_path: Path) -> None:
    monopoly = numbers(judge(make_run(tmp_path / "one", packed), judged.parent / "fast.yaml"))
    answers = run_ranks(4, judge, make_run(tmp_path / "four", packed), judged.parent / "fast.yaml", timeout=240)
    for answer in answers:
        shared = numbers(answer)
        assert shared.keys() == monopoly.keys()
        worst = max(abs(shared[name] - monopoly[name]) for name in shared)
        assert worst < 1e-6
    assert len(monopoly) > 100 and {path.split(".")[1] for path in monopoly} == set(TASKS)


@pytest.mark.ranks
def test_several_ranks_from_the_command(judged: Path, packed: Path, tmp_path: Path) -> None:
    import sys

    from tests.helpers.runs import execute

    run = make_run(tmp_path, packed)
    words = [
        "evaluate",
        str(run),
        "--protocol",
        "clean",
        "--tasks",
        "retrieval,grounding",
        "--ranks",
        "2",
        "--resamples",
        "0",
    ]
    done = execute([sys.executable, "-m", "msvl.cli", *words])
    assert done.code == 0, done.output[-2000:]
    content = json.loads((run / "evaluation" / "phantom-test-clean.json").read_text())
    assert content["ranks"] == 2
    assert done.output.count("Wrote ") == 1
