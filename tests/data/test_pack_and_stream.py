"""From a source to batches: bytes, splits, order, resume and faults."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import webdataset

from msvl.config.errors import DataError
from msvl.data.batch import Batch
from msvl.data.config import AugmentConfig, DataConfig, ReportConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.faults import Fill, LostSamples
from msvl.data.images import decode_jpeg, evaluation_image, training_image
from msvl.data.pack import PackOptions, pack
from msvl.data.pack_record import pixel_sums
from msvl.data.packed import PackedSet
from msvl.data.planned_steps import Share
from msvl.data.reader import SampleReader
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.data.training_data import TrainingData
from msvl.data.uncertainty import UNKNOWN
from msvl.data.verify import verify
from tests.helpers.tiny_source import TinySource

OPTIONS = PackOptions(short_side=32, shard_samples=20, tokenizer_vocabulary=120)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "tiny"
    pack(TinySource(), out, OPTIONS, workers=1, progress=False)
    return out


def test_two_forms_of_one_collection_in_a_mix_are_told(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    mixed = config(tiny, mix={str(tiny): 1.0, str(other): 1.0})
    TrainingData.open(mixed, 0)
    assert "cut from one collection" not in caplog.text, "a copy of the same source"
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"name": "tiny-dicom"}))
    TrainingData.open(mixed, 0)
    assert f"{tiny} (tiny) and {other} (tiny-dicom) are cut from one collection" in caplog.text


def config(path: Path, **changes: object) -> DataConfig:
    report = ReportConfig(max_tokens=24, max_sentences=4, sentence_sampling="shuffle")
    return DataConfig(path=str(path), image_size=16, workers=0, report=report, **changes)


def stream_of(
    path: Path,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    fills: dict[int, Fill] | None = None,
    **changes: object,
) -> Iterator[Batch]:
    data = config(path).model_copy(update=changes)
    packed = PackedSet.open(path, max_bad_share=1.0)
    tokeniser = ReportTokeniser(str(packed.tokenizer_path), data.report)
    plan = TrainingData.open(data, 1, packed).plan
    return training_batches(plan, data, tokeniser, Share(8, rank, world), start_step=start, fills=fills)


def batches(
    path: Path, *, start: int = 0, rank: int = 0, world: int = 1, count: int = 3, **changes: object
) -> list[Batch]:
    stream = stream_of(path, start=start, rank=rank, world=world, **changes)
    return [next(stream) for _ in range(count)]


def equal(one: Batch, other: Batch) -> bool:
    return (
        one.keys == other.keys
        and one.step == other.step
        and torch.equal(one.images, other.images)
        and torch.equal(one.tokens.input_ids, other.tokens.input_ids)
        and torch.equal(one.ids.stacked(), other.ids.stacked())
    )


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.evidence("Packing gives the same bytes for any number of processes", how="cpu")
def test_same_bytes_for_one_and_two_processes(tiny: Path, tmp_path: Path) -> None:
    pack(TinySource(), tmp_path / "two", OPTIONS, workers=2, progress=False)
    assert digests(tmp_path / "two") == digests(tiny)


@pytest.mark.evidence("No patient is in two splits", how="cpu")
def test_splits_share_no_patient(tiny: Path) -> None:
    packed = PackedSet.open(tiny)
    patients = {}
    for split in ("train", "val", "test"):
        reader = SampleReader(packed.split(split))
        patients[split] = {reader.meta(number)["patient"] for number in range(len(reader.index))}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())) == 30


def test_packing_twice_changes_nothing_and_other_options_are_refused(tiny: Path) -> None:
    before = digests(tiny)
    pack(TinySource(), tiny, OPTIONS, workers=1, progress=False)
    assert digests(tiny) == before
    with pytest.raises(DataError, match="with other options; remove it or choose another --out"):
        pack(TinySource(), tiny, PackOptions(short_side=16), workers=1, progress=False)


def test_dropped_records_are_named(tmp_path: Path) -> None:
    pack(TinySource(bad=True), tmp_path / "out", OPTIONS, workers=1, progress=False)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "dropped.csv").read_text())))
    assert len(rows) == 6
    assert {row["reason"] for row in rows} == {"the image is broken"}
    assert all(row["study"] and row["key"] and row["where"].startswith("tiny row ") for row in rows)


def test_too_many_dropped_records_stop_packing_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 of 60 records cannot be used.*the image is broken"):
        pack(TinySource(bad=True), tmp_path / "out", PackOptions(max_dropped_share=0.05), workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_any_webdataset_loader_reads_the_shards(tiny: Path) -> None:
    shard = str(tiny / "train" / "shard-000000.tar")
    samples = list(webdataset.WebDataset([shard], shardshuffle=False).decode())
    assert len(samples) == 20
    assert {"jpg", "json", "mask.png"} <= samples[0].keys()
    assert "No effusion is seen." in samples[0]["json"]["report"]


def test_boxes_and_masks_shrink_with_the_image(tiny: Path) -> None:
    reader = SampleReader(PackedSet.open(tiny).split("train"))
    box = reader.meta(0)["boxes"][0]
    assert (box["w"], box["h"]) == pytest.approx((16 * 2 / 3, 8 * 2 / 3), abs=0.2)
    bits = cv2.imdecode(np.frombuffer(reader.mask(0), np.uint8), cv2.IMREAD_UNCHANGED)
    rows, columns = np.nonzero(bits == 1)
    assert (columns.min(), rows.min()) == pytest.approx((box["x"], box["y"]), abs=1)


def test_pixel_statistics_are_those_of_the_training_images(tiny: Path) -> None:
    packed = PackedSet.open(tiny)
    reader = SampleReader(packed.split("train"))
    pixels = np.concatenate([decode_jpeg(reader.image(n)).ravel() for n in range(len(reader.index))]) / 255
    assert (packed.pixel_mean, packed.pixel_std) == pytest.approx((pixels.mean(), pixels.std()), abs=0.02)


@pytest.mark.evidence("Every number of ranks and loader processes sees the same samples at every step", how="cpu")
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_deal_the_same_global_batch(tiny: Path, world: int) -> None:
    whole = batches(tiny)
    shares = [batches(tiny, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        dealt = [shares[position % world][step].keys[position // world] for position in range(8)]
        assert tuple(dealt) == batch.keys


@pytest.mark.evidence("A resume reads the very next batch without replay", how="cpu")
def test_resume_gives_the_same_batches(tiny: Path) -> None:
    assert all(
        equal(one, other)
        for one, other in zip(batches(tiny, count=12)[7:], batches(tiny, start=7, count=5), strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_processes_change_nothing(tiny: Path, workers: int) -> None:
    stream = stream_of(tiny, workers=workers)
    assert all(equal(one, next(stream)) for one in batches(tiny, count=4))


def damaged(tiny: Path, tmp_path: Path, member: str) -> tuple[Path, str]:
    """Copy the set and overwrite one member of its first training sample; return the copy and the sample's key."""
    copy = tmp_path / "damaged"
    shutil.copytree(tiny, copy)
    index = PackedSet.open(copy).split("train")
    column = {"jpg": 0, "json": 1}[member]
    with open(index.shard_path(0), "r+b") as stream:
        stream.seek(int(index.records["offset"][0, column]))
        stream.write(b"\xff" * 40)
    return copy, index.key(0)


@pytest.mark.parametrize("member", ["jpg", "json"])
def test_a_bad_record_is_replaced_and_named_and_moves_no_other(tiny: Path, tmp_path: Path, member: str) -> None:
    copy, key = damaged(tiny, tmp_path, member)
    clean, dirty = batches(tiny, count=8), batches(copy, count=8)
    missed = [(batch.step, place) for batch in clean for place, found in enumerate(batch.keys) if found == key]
    assert missed
    assert not any(key in batch.keys for batch in dirty)
    for one, other in zip(clean, dirty, strict=True):
        assert all(a == b for a, b in zip(one.keys, other.keys, strict=True) if a != key)
    fills = [fill for batch in dirty for fill in batch.fills]
    assert [(fill.step, fill.position - 8 * fill.step) for fill in fills] == missed
    assert all(fill.faults[0].key == key and fill.key == dirty[fill.step].keys[fill.position % 8] for fill in fills)


def test_a_known_fill_is_repeated_when_the_record_can_be_read_again(tiny: Path, tmp_path: Path) -> None:
    copy, key = damaged(tiny, tmp_path, "jpg")
    dirty = batches(copy, count=8)
    known = {fill.position: fill for batch in dirty for fill in batch.fills}
    mended = [next(stream) for stream in [stream_of(tiny, fills=known)] for _ in range(8)]
    assert all(equal(one, other) for one, other in zip(dirty, mended, strict=True))
    assert not any(batch.fills for batch in mended)


def test_where_nothing_can_be_read_the_stream_stops(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bad"
    shutil.copytree(tiny, copy)
    index = PackedSet.open(copy).split("train")
    for number in range(len(index)):
        with open(index.shard_path(index.shard(number)), "r+b") as stream:
            stream.seek(int(index.records["offset"][number, 0]))
            stream.write(b"\x00" * 20)
    with pytest.raises(DataError, match=r"samples cannot be read.*data.max_bad_share=0.01.*msvl data verify"):
        batches(copy)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_is_one_fault_of_all_its_samples(tiny: Path, tmp_path: Path, workers: int) -> None:
    copy = tmp_path / "gone"
    shutil.copytree(tiny, copy)
    lost = LostSamples(samples=len(PackedSet.open(copy).split("train")), max_share=0.01)
    stream = stream_of(copy, workers=workers)
    (copy / "train" / "shard-000001.tar").unlink()
    for _ in range(8):
        lost.add(fault for fill in next(stream).fills for fault in fill.faults)
    assert lost.count == 20
    with pytest.raises(
        DataError, match=r"^20 of .* all of .*shard-000001.tar: the shard cannot be opened \(No such file"
    ):
        lost.check()
    with pytest.raises(DataError, match="shard-000001.tar is missing: copy it again"):
        PackedSet.open(copy)


def test_verify_names_shard_and_record(tiny: Path, tmp_path: Path) -> None:
    assert verify(tiny) == []
    copy, key = damaged(tiny, tmp_path, "jpg")
    faults = verify(copy)
    assert [fault.key for fault in faults] == ["", key]
    assert "shard-000000.tar" in faults[0].shard


def test_verify_finds_the_same_with_several_processes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, _ = damaged(tiny, tmp_path, "json")
    (copy / "val" / "shard-000000.tar").unlink()
    alone = verify(copy, progress=False)
    monkeypatch.setattr("msvl.data.verify.ALONE", 0)
    assert verify(copy, workers=2, progress=False) == alone
    assert len(alone) >= 3


def test_pixel_sums_are_exact() -> None:
    for shape, level in (((700, 513), None), ((2000, 3000), 255), ((2999, 2049), None)):
        rng = np.random.default_rng(shape[0])
        grey = np.full(shape, level, np.uint8) if level else rng.integers(0, 256, shape, dtype=np.uint8)
        whole = grey.astype(np.int64)
        assert pixel_sums(grey) == (whole.sum(), (whole**2).sum(), whole.size)


def test_evaluation_set_knows_labels_boxes_and_reports(tiny: Path) -> None:
    held_out = EvaluationSet.load(PackedSet.open(tiny), "train", image_size=16, report=ReportConfig(), limit=5)
    assert held_out.images.shape == (5, 1, 16, 16)
    assert set(held_out.labels["nodule"]) == {UNKNOWN}
    assert held_out.sentences[0][-1] == "Normal chest."
    box = held_out.boxes[0][0]
    assert 0 <= box.x < box.x + box.w <= 16


def test_without_augmentation_training_sees_the_evaluation_image(tiny: Path) -> None:
    data = SampleReader(PackedSet.open(tiny).split("train")).image(0)
    still = AugmentConfig(enabled=False)
    out = np.zeros((16, 16), np.uint8)
    training_image(data, still, [0.5] * 7, out)
    assert np.array_equal(out, evaluation_image(data, 16))


def test_a_cut_jpeg_is_no_image(tiny: Path) -> None:
    data = SampleReader(PackedSet.open(tiny).split("train")).image(0)
    with pytest.raises(ValueError, match="(?i)jpeg|premature|end"):
        decode_jpeg(data[: len(data) // 2])


def test_manifest_says_what_was_packed(tiny: Path) -> None:
    manifest = json.loads((tiny / "manifest.json").read_text())
    assert (
        manifest["counts"]["train"]["samples"]
        + manifest["counts"]["val"]["samples"]
        + manifest["counts"]["test"]["samples"]
        == 60
    )
    assert manifest["mask_bits"] == ["left", "right"]
    assert "p1" not in json.dumps(manifest["counts"])
