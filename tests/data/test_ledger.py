"""Elastic resume with killed processes, the ledger against what was really read, and forgetting."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from msvl.cli import main
from msvl.config.errors import CheckpointError, DataError
from msvl.data.config import DataConfig
from msvl.data.forget import forget
from msvl.data.history import keep_state
from msvl.data.ledger import Ledger
from msvl.data.pack_options import PackOptions
from msvl.data.packed import PackedSet
from msvl.data.planned_steps import Share
from msvl.data.run_data import RunData
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.data.training_data import TrainingData
from msvl.data.verify import verify
from tests.helpers.lane_reader import GLOBAL_BATCH, SEED, data_config, logged, run_until
from tests.helpers.packed_sets import pack_studies

OPTIONS = PackOptions(short_side=32, shard_samples=20, tokenizer_vocabulary=120)


@pytest.fixture(scope="module")
def packed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_studies(tmp_path_factory.mktemp("packed") / "studies", OPTIONS)


@pytest.fixture
def studies(packed_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(packed_once, tmp_path / "studies")


def damage(folder: Path, rows: list[int]) -> list[str]:
    index = PackedSet.open(folder).split("train")
    for row in rows:
        with open(index.shard_path(index.shard(row)), "r+b") as stream:
            stream.seek(int(index.records["offset"][row, 0]))
            stream.write(b"\xff" * 20)
    return [index.key(row) for row in rows]


def start_run(run: Path, config: DataConfig, *steps: int) -> Path:
    """Make the parts of a run folder that the ledger reads."""
    for step in steps:
        (run / "checkpoints" / f"step-{step:08}").mkdir(parents=True)
    run.mkdir(exist_ok=True)
    RunData(SEED, GLOBAL_BATCH, TrainingData.open(config, SEED).state, config).write(run, fresh=True)
    return run


def uninterrupted(config: DataConfig, steps: int, start: int = 0) -> list[list[str]]:
    data = TrainingData.open(config, SEED)
    tokeniser = ReportTokeniser(str(data.sets[0].tokenizer_path), config.report)
    stream = training_batches(data.plan, config, tokeniser, Share(GLOBAL_BATCH), start_step=start)
    return [list(next(stream).keys) for _ in range(steps)]


@pytest.mark.ranks
@pytest.mark.evidence(
    "Readers killed with SIGKILL and started again on 1, 2, 4 and 1 ranks read at every step what an uninterrupted run reads, "
    "filled places included, and the ledger tells it",
    how="gloo",
)
def test_elastic_resume_of_killed_readers(studies: Path, tmp_path: Path) -> None:
    damage(studies, [3, 40, 77, 100])
    config = data_config(str(studies))
    run = start_run(tmp_path / "run", config)
    done, stages = 0, [(1, 12, 0), (2, 24, 2), (4, 36, 0), (1, 50, 1)]
    for world, until, workers in stages:
        # As from a checkpoint a few steps back: those steps are read again.
        begin = max(0, done - 3)
        done = run_until(
            str(run), config.model_copy(update={"workers": workers}), world=world, start=begin, until=until
        )
    expected = uninterrupted(config, 60)
    ledger = Ledger(run)
    assert ledger.fills
    steps_seen = Counter()
    for world in (1, 2, 4):
        for rank in range(world):
            for step, keys in logged(str(run), Share(GLOBAL_BATCH, rank, world)):
                if step < len(expected):
                    assert keys == expected[step][rank::world], (step, world, rank)
                    steps_seen[step] += len(keys)
    assert all(steps_seen[step] >= GLOBAL_BATCH for step in range(51))
    assert [[entry.key for entry in ledger.batch(step + 1)] for step in range(51)] == expected[:51]


@pytest.mark.evidence("The ledger of a run tells the keys of every step, and what each checkpoint has seen", how="cpu")
@pytest.mark.parametrize("images", ["one_per_study", "all"])
def test_ledger_of_mixed_sources_is_what_was_read(
    studies: Path, packed_once: Path, tmp_path: Path, images: str
) -> None:
    config = data_config(str(studies), mix={str(studies): 3, str(packed_once): 1}, images=images)
    run = start_run(tmp_path / "run", config, 20)
    read = uninterrupted(config, 20)
    ledger = Ledger(run)
    told = [ledger.batch(step) for step in range(1, 21)]
    assert [[entry.key for entry in batch] for batch in told] == read
    by_source = Counter((entry.source, entry.key) for batch in told for entry in batch)
    counts = ledger.times_read(20)
    found = {
        (path, index.key(row)): times
        for path, index, count in zip(ledger.paths, ledger.indexes, counts, strict=True)
        for row, times in enumerate(count.tolist())
        if times
    }
    assert found == by_source
    share = sum(times for (source, _), times in by_source.items() if source == str(studies)) / 160
    assert share == pytest.approx(0.75, abs=0.03)


def test_one_image_of_every_study_per_epoch_and_other_ones_in_others(studies: Path) -> None:
    config = data_config(str(studies))
    plan = TrainingData.open(config, SEED).plan
    index = plan.sources[0].index
    places = plan.epoch_places
    assert places == PackedSet.open(studies).counts("train")["studies"]
    rows = plan.locate(np.arange(40 * places)).rows.reshape(40, places)
    for epoch in rows:
        assert len({index.study(row) for row in epoch}) == places
    per_image = Counter(rows.ravel().tolist())
    assert len(per_image) == len(index)  # a study of three images shows all of them in forty epochs
    everything = TrainingData.open(data_config(str(studies), images="all"), SEED).plan
    assert sorted(everything.locate(np.arange(len(index))).rows) == list(range(len(index)))


@pytest.mark.evidence(
    "Forgotten samples are never read again, the manifest's hash changes, shards stay, and the checkpoints that saw them are "
    "named",
    how="cpu",
)
def test_forget(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = data_config(str(studies))
    index = PackedSet.open(studies).split("train")
    before = PackedSet.open(studies)
    shards = [index.shard_path(number).read_bytes() for number in range(len(index.shards))]
    run = start_run(tmp_path / "runs" / "r", config, 1, 2, 30)
    told = [[entry.key for entry in Ledger(run).batch(step)] for step in range(1, 31)]
    key = next(key for key in told[1] if key not in told[0])
    row = index.keys.index(key)
    patient = f"{int(index.records['patient'][row]):016x}"
    first = next(
        step
        for step, keys in enumerate(told, 1)
        if any(index.records["patient"][index.keys.index(k)] == index.records["patient"][row] for k in keys)
    )
    gone = [
        key
        for key, owner in zip(index.keys, index.records["patient"].tolist(), strict=True)
        if f"{owner:016x}" == patient
    ]
    assert len(gone) == 4

    assert main(["data", "forget", str(studies), patient, "--runs", str(tmp_path / "runs"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sorted(answer["forgotten"]) == sorted(gone)
    assert [Path(item["path"]).name for item in answer["checkpoints"]] == [
        f"step-{step:08}" for step in (1, 2, 30) if step >= first
    ]
    after = PackedSet.open(studies)
    assert after.fingerprint == answer["manifest"] != before.fingerprint
    left = after.split("train")
    assert set(left.keys) == set(index.keys) - set(gone)
    assert after.counts("train")["patients"] == before.counts("train")["patients"] - 1
    assert after.counts("train")["studies"] == before.counts("train")["studies"] - 2
    assert [left.shard_path(number).read_bytes() for number in range(len(left.shards))] == shards
    assert verify(studies) == []
    read = {key for keys in uninterrupted(config, 60) for key in keys}
    assert not read & set(gone)
    assert len(read) > 50

    # The ledger of the old run still tells what it has read, and asking again names the checkpoints again.
    assert [[entry.key for entry in Ledger(run).batch(step)] for step in range(1, 31)] == told
    again = forget(str(studies), [patient, key], [run])
    assert again.keys == () and len(again.checkpoints) == len(answer["checkpoints"])
    assert again.fingerprint == after.fingerprint


def test_forgetting_that_was_interrupted_is_done_by_the_next_call(studies: Path) -> None:
    keys = PackedSet.open(studies).split("train").keys
    fingerprint = keep_state(studies)
    index = studies / "index" / "train.npy"
    np.save(studies / "index" / "new.npy", np.load(index)[:-3])
    (studies / "index" / "new.npy").replace(index)
    with pytest.raises(DataError, match="index is damaged|instead of"):
        PackedSet.open(studies)
    done = forget(str(studies), [keys[0]], [])
    assert done.keys == (keys[0],) and done.fingerprint != fingerprint
    assert PackedSet.open(studies).split("train").keys == keys[1:]


def test_names_that_the_set_does_not_know_change_nothing(studies: Path) -> None:
    before = PackedSet.open(studies).fingerprint
    key = PackedSet.open(studies).split("train").key(0)
    with pytest.raises(DataError, match="no sample, study or patient 00000000deadbeef"):
        forget(str(studies), [key, "00000000deadbeef"], [])
    assert PackedSet.open(studies).fingerprint == before
    with pytest.raises(DataError, match="not on a local disk"):
        forget("https://127.0.0.1:9/set", [key], [])


def test_ledger_commands(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = data_config(str(studies))
    run = start_run(tmp_path / "run", config, 10)
    ledger = Ledger(run)
    key = ledger.batch(4)[2].key
    assert main(["data", "ledger", str(run), "--step", "4"]) == 0
    assert f"     2  {key}  {studies}" in capsys.readouterr().out
    assert main(["data", "ledger", str(run), "--key", key, "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert steps == [step for step in range(1, 11) if key in [entry.key for entry in ledger.batch(step)]]
    out = tmp_path / "seen.csv"
    checkpoint = run / "checkpoints" / "step-00000010"
    assert main(["data", "ledger", "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    assert "10 steps, 80 places, 0 of them filled" in capsys.readouterr().out
    rows = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert Counter({name: int(times) for _, name, times in rows}) == Counter(
        entry.key for step in range(1, 11) for entry in ledger.batch(step)
    )


def test_faults_of_the_ledger(studies: Path, tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", data_config(str(studies)))
    with pytest.raises(CheckpointError, match=r"no run folder \(no data.json\)"):
        Ledger(tmp_path)
    with pytest.raises(DataError, match="counted from 1"):
        Ledger(run).batch(0)
    (studies / "manifest.json").write_text((studies / "manifest.json").read_text() + " ")
    with pytest.raises(DataError, match="is not the set that the run has read.*put that set back"):
        Ledger(run)


def test_a_start_from_nothing_with_another_order_drops_old_fills(studies: Path, tmp_path: Path) -> None:
    config = data_config(str(studies))
    run = start_run(tmp_path / "run", config)
    (run / "fills").mkdir()
    start_run(run, config.model_copy(update={"workers": 3}))
    assert (run / "fills").is_dir()
    start_run(run, config.model_copy(update={"lanes": 8}))
    assert not (run / "fills").exists()
