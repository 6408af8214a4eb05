"""Beside a card with known faults its clean twin is judged, on what no two splits share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from msvl.cli import main
from msvl.evaluation import protocol_run
from msvl.evaluation.clean_twin import take_apart
from msvl.evaluation.exam import Splits
from tests.evaluation.judged_runs import DescribedPhantom, fast_protocol, make_run, pack_phantom

torch.set_num_threads(1)


class PublishedPhantom(DescribedPhantom):
    """A phantom that says that its splits are as published."""

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "as_published": True}


def leaky(splits: Splits) -> Splits:
    """Return splits in which train rows 0 and 1 and val row 0 belong to the first patient of test, train row 2 to val's second."""
    test, val, train = splits.test, splits.val, splits.train
    return Splits(
        replace(train, patients=[test.patients[0]] * 2 + [val.patients[1]] + train.patients[3:]),
        replace(val, patients=[test.patients[0], *val.patients[1:]]),
        test,
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_phantom(tmp_path_factory.mktemp("shards") / "phantom", source=PublishedPhantom)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), packed)


def protocols(folder: Path, **splits: Any) -> Path:
    """Write a protocol whose cards leak, and its twin."""
    clean = fast_protocol(folder / "clean.yaml")
    tree = yaml.safe_load(clean.read_text())
    for card in tree["cards"]:
        card["leaks"] = ["known to leak"]
        card |= {"splits": splits} if splits else {}
    file = folder / "leaky.yaml"
    file.write_text(yaml.safe_dump(tree | {"name": "leaky", "twin": str(clean)}))
    return file


@pytest.mark.evidence(
    "Where a published split leaks the clean twin is judged beside it, without the patients that two splits share",
    how="cpu",
)
def test_the_twin_stands_beside_the_leaky_card(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = protocol_run.read_splits
    monkeypatch.setattr(protocol_run, "read_splits", lambda *words, **names: leaky(read(*words, **names)))
    words = ["--tasks", "linear_probe,segmentation,retrieval", "--resamples", "0", "--name", "twins"]
    assert main(["evaluate", str(run), "--protocol", str(protocols(tmp_path)), *words]) == 0
    content = json.loads((run / "evaluation" / "twins.json").read_text())
    found = content["clean_twins"]
    assert set(found) == {"linear_probe", "segmentation", "retrieval"}
    for task in ("linear_probe", "segmentation"):
        assert found[task]["splits"] == (
            "the packed set's without 3 images of train and 1 of val whose patients a later split has"
        )
    leak, twin = content["figures"]["linear_probe"], found["linear_probe"]["figures"]
    assert (leak["training_images_at_100"], twin["training_images_at_100"]) == (100, 97)
    table = (run / "evaluation" / "twins-tables" / "tables.md").read_text()
    assert "| linear probe, clean twin | phantom test |" in table
    assert "linear probe: KNOWN FAULT of the published protocol: known to leak" in table
    assert f"linear probe: the clean twin by card {tmp_path / 'clean.yaml'}/linear_probe/any stands beside it" in table


def test_where_nothing_is_shared_it_says_so(run: Path, tmp_path: Path) -> None:
    words = ["--tasks", "linear_probe,retrieval", "--resamples", "0", "--name", "apart"]
    main(["evaluate", str(run), "--protocol", str(protocols(tmp_path)), *words])
    content = json.loads((run / "evaluation" / "apart.json").read_text())
    assert content["clean_twins"]["linear_probe"]["left_out"].startswith(
        "no patient of this packed set is in two splits"
    )
    assert (
        content["clean_twins"]["retrieval"]["figures"]["report_r5"] == content["figures"]["retrieval"]["report_r5"]
    )  # fmt: skip


def test_a_twin_on_other_images_is_not_mixed_in(run: Path, tmp_path: Path) -> None:
    file = protocols(tmp_path, test={"origin": "theirs", "sha256": "0" * 64, "images": 3})
    clean = yaml.safe_load((tmp_path / "clean.yaml").read_text())
    for card in clean["cards"]:
        card["splits"] = {"test": {"origin": "ours", "sha256": "1" * 64, "images": 4}}
    (tmp_path / "clean.yaml").write_text(yaml.safe_dump(clean))
    main(["evaluate", str(run), "--protocol", str(file), "--tasks", "retrieval", "--resamples", "0", "--name", "other"])
    content = json.loads((run / "evaluation" / "other.json").read_text())
    assert content["clean_twins"]["retrieval"]["left_out"].startswith("it judges other images (ours): pack the set by")


def test_rows_are_taken_out_of_every_list(packed: Path) -> None:
    from msvl.data.config import ReportConfig
    from msvl.data.packed import PackedSet

    whole = leaky(
        protocol_run.read_splits(PackedSet.open(packed), ReportConfig(), size=64, split="test", limit=20)
    )  # fmt: skip
    apart = take_apart(whole)
    assert (apart.from_train, apart.from_val) == (3, 1)
    train = apart.splits.train
    assert train.keys == whole.train.keys[3:] and len(train.images) == len(train.labels["nodule"]) == 17
    assert torch.equal(train.images, whole.train.images[3:])
    assert apart.splits.val.sentences == whole.val.sentences[1:]
    assert apart.splits.test is whole.test
    again = take_apart(apart.splits)
    assert (again.from_train, again.from_val) == (0, 0) and again.splits.train is train
