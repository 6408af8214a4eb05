"""Bad input ends with one clear message, the right exit code, no traceback, nothing overwritten, and no hang."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import Finished, execute, launch, losses, orphans, tiny_config

TRAIN = [sys.executable, "-m", "msvl.train"]
MSVL = [sys.executable, "-m", "msvl.cli"]


def one_message(finished: Finished, *parts: str) -> None:
    """Assert exit code 2, one msvl message with these parts, and no traceback."""
    assert finished.code == 2, finished.output
    messages = [line for line in finished.output.splitlines() if line.startswith("msvl: ")]
    assert len(messages) == 1, finished.output
    assert all(part in messages[0] for part in parts), messages[0]
    assert "Traceback" not in finished.output


@pytest.fixture
def config(tiny_set: Path, tmp_path: Path) -> Path:
    return tiny_config(tmp_path / "run.yaml", data=tiny_set, runs=tmp_path / "runs", name="r")


@pytest.mark.evidence("A mistake in a configuration ends with one sentence that names file, key and cure", how="cpu")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train.stepz=3"], ["run.yaml", "'train.stepz'", "did you mean 'train.steps'?"]),
        (["train.steps=many"], ["train.steps", "'many'"]),
        (["data.path=nowhere/phantom"], ["nowhere/phantom is no packed set", "msvl data pack phantom"]),
        (["data.train_split=tarin"], ["'tarin' has no samples", "train (", "val ("]),
        (["validation.best_metric=auc"], ["validation.best_metric", "'auc'", "retrieval.report_r5"]),
        (["model.text.weights=./nowhere"], ["model.text.weights", "'./nowhere'", "is no folder"]),
        (
            ["objectives.custom.mine.class=nosuch.mod:Loss"],
            ["objectives.custom", "nosuch.mod:Loss", "cannot be imported"],
        ),
        (["train.micro_batch=3"], ["train.micro_batch 3 does not divide the 8 pairs per rank", "use 2 or 4"]),
    ],
)
def test_fault_before_training(config: Path, words: list[str], parts: list[str]) -> None:
    one_message(execute([*TRAIN, "--config", str(config), *words]), *parts)


def test_configuration_is_checked_before_torch_is_imported(config: Path) -> None:
    code = (
        "import sys; from msvl.training.cli import main; "
        f"code = main(['--config', {str(config)!r}, 'train.stepz=3']); sys.exit(9 if 'torch' in sys.modules else code)"
    )
    assert execute([sys.executable, "-c", code]).code == 2


def test_world_size_that_does_not_fit(config: Path) -> None:
    one_message(
        execute([*MSVL, "train", str(config), "--ranks", "3"]),
        "8 does not divide over 3 ranks",
        "2 or 4 ranks",
        "6 or 9",
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "{config}", "--ranks", "0"], ["--ranks 0", "at least 1"]),
        (["evaluate", "{folder}", "--limit", "-3"], ["--limit -3", "1 or more"]),
        (["data", "pack", "phantom", "--out", "{folder}/set", "--workers", "0"], ["--workers 0", "at least 1"]),
    ],
)
def test_numbers_out_of_their_range(config: Path, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    one_message(execute([*MSVL, *(word.format(config=config, folder=tmp_path) for word in words)]), *parts)


def test_partial_launcher_variables(config: Path) -> None:
    line = ["env", "RANK=0", *TRAIN, "--config", str(config)]
    one_message(execute(line), "RANK", "WORLD_SIZE", "torchrun")


def test_truncated_and_vanished_shards_are_named(config: Path, tiny_set: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_set, copy)
    shard = copy / "train" / "shard-000000.tar"
    os.truncate(shard, shard.stat().st_size // 2)
    words = [*TRAIN, "--config", str(config), f"data.path={copy}"]
    one_message(execute(words), str(shard), "instead of")
    shard.unlink()
    one_message(execute(words), str(shard), "is missing")


@pytest.mark.ranks
def test_weights_that_cannot_be_loaded_are_one_message_of_all_ranks(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = [*MSVL, "train", str(config), "--ranks", "2", f"model.text.weights={tmp_path / 'empty'}"]
    one_message(
        execute(words), f"msvl: no tokenizer could be loaded from '{tmp_path / 'empty'}'", "name a local folder"
    )
    assert not (tmp_path / "runs").exists()


def test_offline_weights_that_were_not_fetched(config: Path, tmp_path: Path) -> None:
    line = [*TRAIN, "--config", str(config), "model.text.weights=some/model"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    one_message(execute(line, environment=offline), "model.text.weights", "some/model", "msvl fetch")


@pytest.mark.ranks
@pytest.mark.evidence("Under a launcher the message comes first and once", how="cpu")
def test_under_a_launcher_our_message_comes_first_and_once(config: Path) -> None:
    finished = launch(config, "train.stepz=3")
    assert finished.code != 0
    lines = [line for line in finished.output.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("msvl: ")]
    assert len(ours) == 1
    assert "did you mean 'train.steps'?" in ours[0]
    first_traceback = next((number for number, line in enumerate(lines) if "Traceback" in line), len(lines))
    assert lines.index(ours[0]) < first_traceback


@pytest.mark.ranks
def test_a_second_start_overwrites_nothing_and_a_damaged_checkpoint_is_named(config: Path, tmp_path: Path) -> None:
    finished = execute([*MSVL, "train", str(config), "train.steps=2"])
    assert finished.code == 0, finished.output[-3000:]
    before = losses(tmp_path / "runs" / "r")
    one_message(execute([*MSVL, "train", str(config), "train.steps=2"]), "already holds a run", "--resume")
    assert losses(tmp_path / "runs" / "r") == before
    shard = next((tmp_path / "runs" / "r" / "checkpoints" / "step-00000002" / "engine").glob("*optim_states.pt"))
    shard.unlink()
    damaged = execute([*MSVL, "train", str(config), "--resume", "train.steps=3"])
    one_message(damaged, str(shard.name), "is missing", "remove")
    assert orphans(damaged.token) == []


@pytest.mark.ranks
@pytest.mark.evidence("A checkpoint file that is damaged on one rank is named once, by all ranks", how="gloo")
def test_a_damaged_file_of_one_rank_is_one_message(config: Path, tmp_path: Path) -> None:
    words = [*MSVL, "train", str(config), "--ranks", "2"]
    finished = execute([*words, "train.steps=2"])
    assert finished.code == 0, finished.output[-3000:]
    engine = tmp_path / "runs" / "r" / "checkpoints" / "step-00000002" / "engine"
    shard = next(engine.glob("*pp_rank_1_*optim_states.pt"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(bytes(data))
    damaged = execute([*words, "--resume", "train.steps=3"])
    one_message(damaged, shard.name, "is damaged", "to resume from an older checkpoint")
    assert orphans(damaged.token) == []


@pytest.mark.ranks
@pytest.mark.evidence(
    "A full disk on one rank fails the save on all ranks; older checkpoints stay; nobody hangs", how="gloo"
)
@pytest.mark.parametrize("rank", [0, 1])
def test_full_disk_during_a_save_on_one_rank(config: Path, tmp_path: Path, rank: int) -> None:
    finished = launch(
        config, "train.steps=4", "train.save_every=2", script="tests/helpers/full_disk_train.py",
        environment={"FULL_AT": json.dumps({"rank": rank, "save": 2})},
    )  # fmt: skip
    assert finished.code != 0
    messages = [line for line in finished.output.splitlines() if line.startswith("msvl: ")]
    assert len(messages) == 1, finished.output[-3000:]
    assert "was not saved" in messages[0]
    assert "disk is full" in messages[0]
    checkpoints = tmp_path / "runs" / "r" / "checkpoints"
    assert [folder.name for folder in checkpoints.glob("step-*")] == ["step-00000002"]
    assert not list(checkpoints.glob(".partial-*"))
    assert orphans(finished.token) == []


@pytest.mark.evidence(
    "A bad record among good ones is skipped, counted and named; above a set share the run stops", how="cpu"
)
def test_bad_records_are_named_and_stop_the_run_above_a_share(config: Path, tiny_set: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_set, copy)
    shard = copy / "train" / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    places = [place for place in range(len(data) - 3) if data[place : place + 3] == b"\xff\xd8\xff"]
    data[places[0] : places[0] + 3] = b"xxx"
    shard.write_bytes(bytes(data))
    words = [*TRAIN, "--config", str(config), f"data.path={copy}", "train.steps=8"]
    finished = execute(words)
    assert finished.code == 0, finished.output[-3000:]
    log = (tmp_path / "runs" / "r" / "log" / "rank-00000.txt").read_text()
    assert log.count("cannot be used and is replaced") == 1
    for place in places[1:]:
        data[place : place + 3] = b"xxx"
    shard.write_bytes(bytes(data))
    one_message(execute([*words, "run.name=s"]), "samples cannot be read", "data.max_bad_share", "msvl data verify")
