"""Tars of another origin, used in place: what is indexed, read, trained on and judged."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import webdataset

from msvl.cli import build_parser
from msvl.config.errors import DataError
from msvl.data.config import DataConfig, ReportConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.index_tars import IndexOptions, index_tars
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.planned_steps import Share
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.storage import RemoteConfig
from msvl.data.stream import training_batches
from msvl.data.tar_listing import Fields
from msvl.data.tokenise import ReportTokeniser
from msvl.data.training_data import TrainingData
from msvl.data.verify import verify
from tests.helpers.object_server import serve_objects

FORMATS = ("jpg", "png", "webp")


def picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return cv2.resize(rng.integers(0, 255, (6, 6), dtype=np.uint8), (48, 40), interpolation=cv2.INTER_CUBIC)


def words_of(number: int) -> str:
    return f"FINDINGS: The heart is number {number} in size.\nIMPRESSION: Normal chest."


def members(number: int) -> dict[str, bytes]:
    _, image = cv2.imencode(f".{FORMATS[number % 3]}", picture(number))
    about = {"report": words_of(number), "patient": f"p{number // 2}", "visit": f"v{number // 2}"}
    return {FORMATS[number % 3]: image.tobytes(), "txt": words_of(number).encode(), "json": json.dumps(about).encode()}


def write_tar(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> str:
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for key, parts in samples:
            writer.write({"__key__": key, **parts})
    return str(path)


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tars")
    return [
        write_tar(folder / f"{tar:05d}.tar", [(f"{n:09d}", members(n)) for n in range(20 * tar, 20 * tar + 20)])
        for tar in range(3)
    ]


def samples(packed: PackedSet) -> dict[str, tuple[bytes, dict]]:
    found = {}
    for split in SPLITS:
        if packed.counts(split)["samples"]:
            reader = SampleReader(packed.split(split))
            for number in range(len(reader.index)):
                found[reader.key(number)] = (reader.image(number), reader.meta(number))
    return found


def command(*words: str) -> int:
    arguments = build_parser("data").parse_args(["data", "index", *words, "--workers", "1"])
    return arguments.run(arguments)


def test_the_command_says_what_it_found(tars: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*tars, "--out", str(tmp_path / "set"), "--caption", "json:report", "--split", "val") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'set'}: train 0, val 60, test 0\n"
    for caption in ("json:", "xml"):
        with pytest.raises(DataError, match=f"--caption {caption}: give txt or json:FIELD"):
            command(*tars, "--out", str(tmp_path / "other"), "--caption", caption)
    with pytest.raises(DataError, match=r"none\.tar: No such file or directory"):
        command(str(tmp_path / "none.tar"), "--out", str(tmp_path / "other"))


@pytest.mark.parametrize("source", ["txt", "json:report"])
def test_tars_are_read_in_place(tars: list[str], tmp_path: Path, source: str) -> None:
    before = [Path(tar).stat().st_mtime_ns for tar in tars]
    index_tars(tars, tmp_path / "set", IndexOptions(Fields(source)), progress=False)
    assert [Path(tar).stat().st_mtime_ns for tar in tars] == before
    packed = PackedSet.open(tmp_path / "set")
    found = samples(packed)
    assert sorted(found) == [f"{number:09d}" for number in range(60)]
    for key, (image, meta) in found.items():
        assert image == members(int(key))[FORMATS[int(key) % 3]]
        assert meta["report"] == words_of(int(key))
        assert list(usable_sentences(meta, ReportConfig()))[-1] == "Normal chest."
    assert all(packed.counts(split)["samples"] for split in SPLITS)
    assert verify(tmp_path / "set") == []
    grey = np.concatenate([picture(int(key)).ravel() for key in packed.split("train").keys]) / 255
    assert (packed.pixel_mean, packed.pixel_std) == pytest.approx((grey.mean(), grey.std()), abs=0.02)


@pytest.mark.evidence("WebDataset tars of others are trained on and judged without repacking", how="cpu")
def test_a_model_trains_and_is_judged_on_them(tars: list[str], tmp_path: Path) -> None:
    index_tars(tars, tmp_path / "set", IndexOptions(tokenizer_vocabulary=120), progress=False)
    packed = PackedSet.open(tmp_path / "set")
    data = DataConfig(path=str(tmp_path / "set"), image_size=16, workers=0, report=ReportConfig(max_tokens=24))
    tokeniser = ReportTokeniser(str(packed.tokenizer_path), data.report)
    plan = TrainingData.open(data, 1, packed).plan
    batch = next(training_batches(plan, data, tokeniser, Share(8, 0, 1), start_step=0))
    assert batch.images.shape == (8, 1, 16, 16) and batch.images.float().std() > 5
    assert torch.all(batch.tokens.sentence_mask.sum(dim=1) == 2)
    judged = EvaluationSet.load(packed, "test", image_size=16, report=ReportConfig())
    assert len(judged) == packed.counts("test")["samples"]


def test_fields_name_patients_and_studies(tars: list[str], tmp_path: Path) -> None:
    fields = Fields("txt", patient="patient", study="visit")
    index_tars(tars, tmp_path / "set", IndexOptions(fields), progress=False)
    packed = PackedSet.open(tmp_path / "set")
    splits = {split: {int(key) // 2 for key in packed.split(split).keys} for split in SPLITS}
    assert sum(map(len, splits.values())) == 30, "no patient is in two splits"
    assert sum(packed.counts(split)["studies"] for split in SPLITS) == 30
    index = packed.split("train")
    for number in range(len(index.shards)):
        assert len(index.study_starts(number)) == index.studies_per_shard[number]


def test_a_study_without_a_patient_is_parted_by_no_split(tars: list[str], tmp_path: Path) -> None:
    index_tars(tars, tmp_path / "set", IndexOptions(Fields("txt", study="visit")), progress=False)
    packed = PackedSet.open(tmp_path / "set")
    visits = [{int(key) // 2 for key in packed.split(split).keys} for split in SPLITS]
    assert all(visits) and sum(map(len, visits)) == 30, "no visit is in two splits"
    assert sum(packed.counts(split)["studies"] for split in SPLITS) == 30


@pytest.mark.parametrize(
    ("words", "told"), [((), True), (("--patient-field", "patient"), False), (("--split", "train"), False)]
)
def test_splits_by_nobody_are_told(
    tars: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, words: tuple[str, ...], told: bool
) -> None:
    assert command(*tars, "--out", str(tmp_path / "set"), *words) == 0
    assert ("without --patient-field every sample" in caplog.text) == told


def test_one_split_of_your_own(tars: list[str], tmp_path: Path) -> None:
    index_tars(tars, tmp_path / "set", IndexOptions(split="test"), progress=False)
    packed = PackedSet.open(tmp_path / "set")
    assert (len(packed.split("test")), packed.counts("train")["samples"]) == (60, 0)
    with pytest.raises(DataError, match="set exists: remove it or choose another --out"):
        index_tars(tars, tmp_path / "set", IndexOptions(), progress=False)


def test_tars_that_share_keys_get_their_names_in_front(tars: list[str], tmp_path: Path) -> None:
    copy = shutil.copy(tars[0], tmp_path / "copy.tar")
    index_tars([tars[0], str(copy)], tmp_path / "set", IndexOptions(split="train"), progress=False)
    keys = PackedSet.open(tmp_path / "set").split("train").keys
    assert len(set(keys)) == 40 and {"00000.tar/000000003", "copy.tar/000000003"} <= set(keys)


def test_unusable_samples_are_left_out_and_named(tmp_path: Path) -> None:
    bad = {
        "a": {"txt": b"no image here"},
        "b": {"jpg": b"", "txt": b"its image is empty"},
        "c": {"jpg": b"x", "txt": b"\xff\xfe\xff"},
        "d": {"jpg": b"x", "txt": b"  "},
        "e": {"jpg": b"x"},
    }
    tar = write_tar(tmp_path / "bad.tar", [*bad.items(), ("f", members(0))])
    manifest = index_tars([tar], tmp_path / "set", IndexOptions(split="train"), progress=False)
    assert manifest["counts"]["train"]["samples"] == 1
    assert set(manifest["dropped"]) == {
        "it has no image", "its image is empty", "its text is not UTF-8", "its caption is empty", "it has no txt",
    }  # fmt: skip
    tar = write_tar(tmp_path / "worse.tar", list(bad.items()))
    with pytest.raises(DataError, match="no sample of 1 tars can be used: it has no image"):
        index_tars([tar], tmp_path / "none", IndexOptions(), progress=False)


def test_a_damaged_tar_gives_what_comes_before_and_is_named(
    tars: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(tars[0]) as tar:
        cut = [member.offset_data for member in tar if member.name.startswith("000000007")][0] + 3
    data = Path(tars[0]).read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:cut])
    index_tars([str(tmp_path / "cut.tar")], tmp_path / "set", IndexOptions(split="train"), progress=False)
    assert PackedSet.open(tmp_path / "set").split("train").keys == [f"{number:09d}" for number in range(7)]
    assert "cut.tar cannot be read to its end" in caplog.text


def test_a_key_that_comes_twice_in_a_tar_is_named(tmp_path: Path) -> None:
    write_twice(tmp_path / "twice.tar")
    with pytest.raises(DataError, match=r"twice\.tar: its samples 1 and 2 have the same key: write the tar again"):
        index_tars([str(tmp_path / "twice.tar")], tmp_path / "x", IndexOptions(split="train"), progress=False)


def write_twice(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for key in ("000000000", "000000001", "000000000"):
            for name, content in (("jpg", b"x"), ("txt", b"one text")):
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_an_image_that_cannot_be_decoded_is_named_by_verify(tmp_path: Path) -> None:
    broken = members(3) | {"jpg": members(3)["jpg"][:100]}
    tar = write_tar(tmp_path / "a.tar", [("good", members(0)), ("broken", broken)])
    index_tars([tar], tmp_path / "set", IndexOptions(split="train"), progress=False)
    assert [(Path(fault.shard).name, fault.key) for fault in verify(tmp_path / "set")] == [("a.tar", "broken")]


def test_tars_on_a_web_server_are_read_in_place(tars: list[str], tmp_path: Path) -> None:
    with serve_objects() as server:
        urls = []
        for tar in tars:
            server.objects[f"/tars/{Path(tar).name}"] = Path(tar).read_bytes()
            urls.append(f"{server.url}/tars/{Path(tar).name}")
        index_tars(urls, tmp_path / "set", IndexOptions(split="train"), progress=False)
        for tar in tars:
            whole = f"bytes=0-{Path(tar).stat().st_size - 1}"
            assert server.ranges_of(f"/tars/{Path(tar).name}").count(whole) == 1, "read once, in one piece"
        packed = PackedSet.open(tmp_path / "set", remote=RemoteConfig(attempts=2, backoff_seconds=0.01))
        assert len(samples(packed)) == 60
        assert verify(tmp_path / "set") == []
