"""Shares of a training split: nested, stratified, by patient, seeded; and lists of one's own."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msvl.config.errors import ConfigError, DataError
from msvl.config.load import check_config
from msvl.data.config import DataConfig, ReportConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.key_table import write_key_table
from msvl.data.ledger import Ledger
from msvl.data.pack import pack
from msvl.data.pack_plan import plan
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.run_data import RunData
from msvl.data.subset import choose_patients, draw_subset, label_stratum, named_subset, subset_digest, write_subset
from msvl.data.training_data import TrainingData
from tests.helpers.packed_sets import OPTIONS, StudySource
from tests.helpers.runs import execute

STRATA = {f"p{number}": "edema" if number % 10 == 0 else "nodule" if number % 4 == 1 else "" for number in range(1000)}


@pytest.mark.parametrize("seed", range(5))
def test_a_smaller_share_is_part_of_a_larger_one(seed: int) -> None:
    shares = [choose_patients(STRATA, ratio, seed) for ratio in (0.01, 0.1, 0.5, 1.0)]
    assert [len(share) for share in shares] == [10, 100, 500, 1000]
    assert shares[0] < shares[1] < shares[2] < shares[3]


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.37])
def test_every_stratum_gives_its_share(ratio: float) -> None:
    whole, chosen = Counter(STRATA.values()), Counter(STRATA[p] for p in choose_patients(STRATA, ratio, seed=3))
    for stratum, size in whole.items():
        assert abs(chosen[stratum] - ratio * size) <= 2, stratum


def test_patients_of_rare_strata_are_drawn_as_often_as_others() -> None:
    strata = {f"p{number}": f"own {number}" if number < 100 else "usual" for number in range(1000)}
    times = Counter(p for seed in range(60) for p in choose_patients(strata, 0.2, seed))
    rare = sum(times[f"p{number}"] for number in range(100)) / (60 * 100)
    # Standard error of a share of 0.2 over 6,000 draws is 0.005.
    assert abs(rare - 0.2) < 0.025


def test_the_seed_decides_and_the_order_of_listing_does_not() -> None:
    assert choose_patients(STRATA, 0.1, 0) == choose_patients(dict(reversed(STRATA.items())), 0.1, 0)
    assert choose_patients(STRATA, 0.1, 0) != choose_patients(STRATA, 0.1, 1)
    assert len(choose_patients({"a": "", "b": ""}, 0.01, 0)) == 1
    for ratio in (0, 1.5):
        with pytest.raises(DataError, match="--ratio .*: give a share above 0 and at most 1"):
            choose_patients(STRATA, ratio, 0)


def test_the_stratum_is_what_is_present_in_any_image() -> None:
    assert label_stratum([{"edema": 1, "nodule": 0}, {"nodule": 1, "mass": -1}]) == "edema|nodule"
    assert label_stratum([{"edema": None}]) == ""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subset")
    source, options = StudySource(80), replace(OPTIONS, id_key="k")
    pack(source, folder / "set", options, workers=1, progress=False)
    write_key_table(folder / "keys.csv", plan(source, options))
    return folder


def test_all_samples_of_the_chosen_patients_are_there(packed: Path) -> None:
    index = PackedSet.open(packed / "set").split("train")
    subset = draw_subset(index, 0.25, seed=0)
    reader = SampleReader(index)
    patients = {reader.meta(row)["patient"] for row in range(len(index)) if reader.key(row) in subset.keys}
    everything = {reader.key(row) for row in range(len(index)) if reader.meta(row)["patient"] in patients}
    assert set(subset.keys) == everything
    assert subset.patients == len(patients) == round(0.25 * PackedSet.open(packed / "set").counts("train")["patients"])


def test_a_list_names_keys_studies_patients_or_source_ids(packed: Path, tmp_path: Path) -> None:
    index = PackedSet.open(packed / "set").split("train")
    reader = SampleReader(index)
    meta = reader.meta(5)
    names = tmp_path / "names.txt"
    names.write_text(f"# ours\n{meta['study']}\n\n")
    of_study = named_subset(index, names, None)
    assert reader.key(5) in of_study.keys and of_study.patients == 1
    names.write_text(meta["patient"])
    assert set(of_study.keys) < set(named_subset(index, names, None).keys)
    jobs = [
        job
        for unit in plan(StudySource(80), replace(OPTIONS, id_key="k"))
        for job in unit.jobs
        if unit.split == "train"
    ]
    names.write_text(f"{jobs[0].entry.patient}\n")
    with pytest.raises(DataError, match="1 of 1 names are not in split train; source ids need --key-table"):
        named_subset(index, names, None)
    own = {job.key for job in jobs if job.patient == jobs[0].patient}
    assert set(named_subset(index, names, packed / "keys.csv").keys) == own
    names.write_text("# nothing\n")
    with pytest.raises(DataError, match="names nothing"):
        named_subset(index, names, None)


def test_the_command_writes_the_list_and_says_how_it_was_made(packed: Path, tmp_path: Path) -> None:
    words = [
        "data",
        "subset",
        str(packed / "set"),
        "--ratio",
        "0.1",
        "--seed",
        "4",
        "--out",
        str(tmp_path / "list.txt"),
        "--json",
    ]
    done = execute([sys.executable, "-m", "msvl.cli", *words])
    assert done.code == 0, done.output
    counts = json.loads(done.output)
    lines = (tmp_path / "list.txt").read_text().splitlines()
    assert lines[0].startswith("# studies, split train, ratio 0.1, seed 4, set ")
    assert len(lines) - 1 == counts["samples"] and counts["patients"] == round(0.1 * counts["of_patients"])
    again = execute([sys.executable, "-m", "msvl.cli", "data", "subset", str(packed / "set"), "--names", str(tmp_path / "list.txt"),
                     "--out", str(tmp_path / "again.txt")])  # fmt: skip
    assert again.code == 0 and (tmp_path / "again.txt").read_text().splitlines()[1:] == lines[1:]


@pytest.fixture(scope="module")
def tenth(packed: Path) -> Path:
    index = PackedSet.open(packed / "set").split("train")
    write_subset(packed / "tenth.txt", draw_subset(index, 0.25, seed=1), "a quarter")
    return packed / "tenth.txt"


@pytest.mark.evidence("Training reads a subset of a split and nothing else of it, every study once an epoch", how="cpu")
@pytest.mark.parametrize("images", ["one_per_study", "all"])
@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_training_reads_a_subset_and_every_place_of_it_once(packed: Path, tenth: Path, images: str, lanes: int) -> None:
    config = DataConfig(path=str(packed / "set"), subset=str(tenth), lanes=lanes, shuffle_window=4, images=images)  # type: ignore[arg-type]
    data = TrainingData.open(config, seed=0)
    index = data.indexes[0]
    wanted = set(draw_subset(index, 0.25, seed=1).rows)
    studies = {index.study(row) for row in wanted}
    assert data.plan.epoch_places == (len(studies) if images == "one_per_study" else len(wanted)) < len(index) / 2
    drawn = set()
    for epoch in range(4):
        first = epoch * data.plan.epoch_places
        rows = data.plan.locate(np.arange(first, first + data.plan.epoch_places)).rows.tolist()
        assert set(rows) <= wanted
        assert (
            len({index.study(row) for row in rows} if images == "one_per_study" else set(rows))
            == data.plan.epoch_places
        )
        drawn |= set(rows)
    assert len(drawn) > len(studies), "other images of a study in other epochs"
    assert data.state["subset"] == subset_digest(tenth)


def test_a_subset_of_everything_reads_what_no_subset_reads(packed: Path, tmp_path: Path) -> None:
    index = PackedSet.open(packed / "set").split("train")
    write_subset(tmp_path / "all.txt", draw_subset(index, 1.0, seed=0), "all")
    plain = DataConfig(path=str(packed / "set"), lanes=4, shuffle_window=4)
    plans = [
        TrainingData.open(config, seed=3).plan
        for config in (plain, plain.model_copy(update={"subset": str(tmp_path / "all.txt")}))
    ]
    positions = np.arange(3 * plans[0].epoch_places)
    assert all(np.array_equal(a, b) for a, b in zip(*(plan.locate(positions) for plan in plans), strict=True))


def test_the_ledger_tells_a_subsets_batches_and_knows_another_list(packed: Path, tenth: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(tenth.read_text())
    config = DataConfig(path=str(packed / "set"), subset=str(own), lanes=4, shuffle_window=4)
    data = TrainingData.open(config, seed=0)
    RunData(0, 4, data.state, config).write(tmp_path, fresh=True)
    rows = data.plan.locate(np.arange(4, 8)).rows.tolist()
    assert [entry.key for entry in Ledger(tmp_path).batch(2)] == [data.indexes[0].key(row) for row in rows]
    own.write_text("\n".join(own.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match="own.txt is not the list that .* has read: put that one back"):
        Ledger(tmp_path)


def test_judgement_learns_from_a_subset(packed: Path, tenth: Path) -> None:
    found = EvaluationSet.load(
        PackedSet.open(packed / "set"), "train", image_size=32, report=ReportConfig(), subset=str(tenth)
    )
    assert found.keys == tenth.read_text().splitlines()[1:]


def test_lists_of_another_set_and_of_mixed_sets_are_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("0123456789abcdef\nCXR1\n")
    with pytest.raises(
        DataError, match="theirs.txt: 2 of 2 names are not in split train of .*make it again with `msvl data subset`"
    ):
        TrainingData.open(DataConfig(path=str(packed / "set"), subset=str(tmp_path / "theirs.txt")), seed=0)
    tree = {"path": "a", "subset": "b", "mix": {"a": 1, "c": 1}}
    with pytest.raises(ConfigError, match="subset: it names samples of one set; leave mix or subset out"):
        check_config(tree, DataConfig, "run.yaml")
