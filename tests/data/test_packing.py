"""Packing: interruptions, parts, limits, formats, the key table, estimates, and sets at URLs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from PIL import Image

from msvl.config.errors import DataError
from msvl.data.estimate import estimate
from msvl.data.image_files import Decoding
from msvl.data.images import decode_image, shrink, to_eight_bit
from msvl.data.key_table import check_place, write_key_table
from msvl.data.merge import Part, merge, pack_part
from msvl.data.pack import PackOptions, pack
from msvl.data.pack_plan import plan
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.partial import open_partial, partial_folder
from msvl.data.publish import publish, published
from msvl.data.reader import SampleReader
from msvl.data.sources.table import TableColumns, TableSource
from msvl.data.storage import open_location
from msvl.data.study import Entry, Record
from msvl.data.verify import verify
from tests.helpers.packed_sets import OPTIONS, StudySource, pack_studies
from tests.helpers.processes import children, gone
from tests.helpers.tiny_source import TinySource

PHANTOM = ["data", "pack", "phantom", "--train", "120", "--val", "4", "--test", "4", "--size", "64", "--short-side", "32",
           "--shard-samples", "4", "--train-tokenizer", "400"]  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(out: Path | str, *words: str) -> list[str]:
    return [sys.executable, "-m", "msvl.cli", *PHANTOM, "--out", str(out), *words]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "phantom"
    subprocess.run(command(out, "--workers", "2"), check=True, capture_output=True)
    return out


@pytest.mark.evidence("Packing goes on after Ctrl-C or a kill and gives the same bytes", how="cpu")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_packing_goes_on_and_gives_the_same_bytes(
    phantom: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "phantom"
    # A session of its own: Ctrl-C reaches the whole group, workers included.
    process = subprocess.Popen(
        command(out, "--workers", "2"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    units = partial_folder(out) / "units"
    deadline = time.monotonic() + 120
    while len(list(units.glob("*.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    workers = children(process.pid)
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    assert not out.exists(), f"exit code {process.returncode}: {said[-2000:]}"
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on from there" in said and "Traceback" not in said
    while not all(map(gone, workers)):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.01)
    kept = {path: path.stat().st_mtime_ns for path in units.glob("*.json")}
    shards = {path.name: path.stat().st_mtime_ns for path in (partial_folder(out) / "train").glob("*.tar")}
    total = len(PackedSet.open(phantom).manifest["shards"])
    assert 2 <= len(kept) < total
    again = subprocess.run(command(out, "--workers", "1"), check=True, capture_output=True, text=True)
    assert f"{len(kept)} of {total} shards are there already" in again.stderr
    assert digests(out) == digests(phantom)
    same = [name for name, changed in shards.items() if (out / "train" / name).stat().st_mtime_ns == changed]
    assert len(same) >= len(kept)
    assert list(tmp_path.iterdir()) == [out]


def test_two_packers_of_one_set_are_refused(tmp_path: Path) -> None:
    with (
        open_partial(tmp_path / "out", {}),
        pytest.raises(DataError, match="another process is packing .*out: wait for it"),
    ):
        pack(TinySource(4), tmp_path / "out", OPTIONS, workers=1, progress=False)


def test_an_unfinished_packing_of_something_else_is_not_continued(tmp_path: Path) -> None:
    with open_partial(tmp_path / "out", {"options": {"short_side": 16}}):
        pass
    with pytest.raises(
        DataError, match="holds an unfinished packing of .* that differs in .*options.*remove the folder"
    ):
        pack(TinySource(4), tmp_path / "out", OPTIONS, workers=1, progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts") / "whole"
    return pack_studies(folder, replace(OPTIONS, tokenizer_vocabulary=120))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    options = replace(OPTIONS, tokenizer_vocabulary=120)
    for number in (1, 2, 3):
        pack_part(StudySource(80), folder / str(number), options, Part(number, 3), workers=1, progress=False)
    return [folder / str(number) for number in (1, 2, 3)]


@pytest.mark.evidence("A set packed in parts and merged has the bytes of one packed in one go", how="cpu")
def test_merged_parts_are_the_set_packed_in_one_go(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    # The order of the folders does not matter.
    merge(tmp_path / "out", [parts[2], parts[0], parts[1]], max_dropped_share=0.5, progress=False)
    assert digests(tmp_path / "out") == digests(whole)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_parts_that_do_not_fit_are_named(parts: list[Path], tmp_path: Path) -> None:
    def joined(*folders: Path) -> None:
        merge(tmp_path / "out", folders, max_dropped_share=0.5, progress=False)

    with pytest.raises(DataError, match="part 2 of 3 is missing: name its folder too"):
        joined(parts[0], parts[2])
    with pytest.raises(DataError, match="1 and .*1 are both part 1 of 3: leave one away"):
        joined(parts[0], _copy(parts[0], tmp_path / "1"))
    pack_part(StudySource(80), tmp_path / "other", OPTIONS, Part(2, 3), workers=1, progress=False)
    with pytest.raises(DataError, match=r"are parts of different packings \(options\): pack one of them again"):
        joined(parts[0], tmp_path / "other", parts[2])
    with pytest.raises(DataError, match=r"is no finished part \(made by .*--part 1/4"):
        joined(tmp_path)
    with pytest.raises(DataError, match="is a part of a packing: join all parts with `msvl data merge"):
        PackedSet.open(parts[0])
    damaged = _copy(parts[1], tmp_path / "damaged")
    shard = next((damaged / "train").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match=rf"shard {shard} is missing or damaged: pack this part again"):
        joined(parts[0], damaged, parts[2])
    for text in ("0/3", "4/3", "a/b", "3"):
        with pytest.raises(DataError, match=f"--part {text}: give PART/OF"):
            Part.parse(text)


def _copy(folder: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", str(folder), str(target)], check=True)
    return target


def test_a_shard_ends_before_the_study_that_would_make_it_too_large(tmp_path: Path) -> None:
    limit = 30_000
    pack_studies(tmp_path / "out", replace(OPTIONS, shard_gb=limit / 1e9))
    packed = PackedSet.open(tmp_path / "out")
    keys, studies = [], []
    for split in SPLITS:
        index = packed.split(split)
        for number in range(len(index.shards)):
            samples = list(webdataset.WebDataset([str(index.shard_path(number))], shardshuffle=False).decode())
            assert sum(int(index.records["size"][row].sum()) for row in index.shard_rows(number)) <= limit
            keys += [sample["__key__"] for sample in samples]
            studies.append({sample["json"]["study"] for sample in samples})
    assert len(keys) == len(set(keys)) == 160
    assert sum(map(len, studies)) == len(set().union(*studies)), "no study is in two shards"
    assert len(studies) > 8
    assert verify(tmp_path / "out") == []


class DeepSource(TinySource):
    """16-bit images whose values lie in a narrow range."""

    name = "deep"

    def record(self, entry: Entry) -> Record:
        record = super().record(entry)
        return replace(record, image=record.image.astype(np.uint16) * 16 + 1000)


def test_sixteen_bits_are_kept_when_asked(tmp_path: Path) -> None:
    source = DeepSource(10)
    options = replace(OPTIONS, depth=16, image_format="png")
    pack(source, tmp_path / "out", options, workers=1, progress=False)
    reader = SampleReader(PackedSet.open(tmp_path / "out").split("train"))
    entries = {job.key: job.entry for unit in plan(source, options) for job in unit.jobs}
    for number in range(len(reader.index)):
        stored = cv2.imdecode(np.frombuffer(reader.image(number), np.uint8), cv2.IMREAD_UNCHANGED)
        expected = shrink(source.record(entries[reader.key(number)]).image, 32)
        assert stored.dtype == np.uint16 and np.array_equal(stored, expected)
        assert np.array_equal(decode_image(reader.image(number)), to_eight_bit(expected))
    shard = str(reader.index.shard_path(0))
    assert "png" in next(iter(webdataset.WebDataset([shard], shardshuffle=False)))
    with pytest.raises(DataError, match="--depth 16: a JPEG holds 8 bits"):
        PackOptions(depth=16)


def test_quality_and_format_are_as_asked(tmp_path: Path) -> None:
    sizes = {}
    for name, options in (
        ("90", OPTIONS),
        ("50", replace(OPTIONS, quality=50)),
        ("png", replace(OPTIONS, image_format="png")),
    ):
        pack(TinySource(8), tmp_path / name, options, workers=1, progress=False)
        reader = SampleReader(PackedSet.open(tmp_path / name).split("train"))
        sizes[name] = len(reader.image(0))
        lossless = cv2.imdecode(np.frombuffer(reader.image(0), np.uint8), cv2.IMREAD_UNCHANGED)
    assert sizes["50"] < sizes["90"] < sizes["png"]
    with pytest.raises(DataError, match="--quality 0: give 1 to 100"):
        PackOptions(quality=0)
    assert lossless.shape == (32, 43)


def table(folder: Path, count: int = 12, *, at_least: int = 0) -> TableSource:
    """A table of files whose names, patients and studies are secret."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        smooth = cv2.resize(rng.integers(0, 255, (6, 8), dtype=np.uint8), (200, 160), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"secret-{number}.jpg"), smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])
        rows.append(f"secret-{number}.jpg,Report number {number} of these.,secret-patient-{number // 2}")
    rows.append("secret-lost.jpg,Its image is lost today.,secret-patient-lost")
    (folder / "reports.csv").write_text("image,report,patient\n" + "\n".join(rows))
    return TableSource(
        folder, folder / "reports.csv", TableColumns(patient="patient"), decoding=Decoding(at_least=at_least)
    )


def test_the_key_table_is_beside_the_source_and_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source, options = table(tmp_path / "source"), replace(OPTIONS, id_key="k")
    place = tmp_path / "source" / "keys.csv"
    write_key_table(place, plan(source, options))
    pack(source, tmp_path / "out", options, workers=1, progress=False)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    rows = {row["key"]: row for row in csv.DictReader(place.open())}
    assert len(rows) == 13
    packed = PackedSet.open(tmp_path / "out")
    for split in SPLITS:
        reader = SampleReader(packed.split(split)) if packed.counts(split)["samples"] else None
        for number in range(len(reader.index) if reader else 0):
            assert reader is not None
            row, meta = rows[reader.key(number)], reader.meta(number)
            assert (row["study"], row["patient"], row["split"]) == (meta["study"], meta["patient"], split)
            assert row["source_image"].removeprefix("secret-").removesuffix(".jpg") in meta["report"]
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes(), f"a source id is in {file}"
    assert "there is no such image file" in (tmp_path / "out" / "dropped.csv").read_text()
    with pytest.raises(DataError, match="is inside the packed set"):
        check_place(tmp_path / "out" / "keys.csv", tmp_path / "out")
    with pytest.raises(DataError, match="--key-table /proc/none/keys.csv cannot be written"):
        write_key_table(Path("/proc/none/keys.csv"), [])


def test_an_image_that_is_listed_twice_is_kept_once_and_named(tmp_path: Path) -> None:
    source = table(tmp_path)
    with open(tmp_path / "reports.csv", "a") as stream:
        # Of another patient: kept too, it might fall into another split.
        stream.write("\nsecret-3.jpg,The same image once more.,secret-patient-other")
    pack(source, tmp_path / "out", OPTIONS, workers=1, progress=False)
    packed = PackedSet.open(tmp_path / "out")
    assert sum(packed.counts(split)["samples"] for split in SPLITS) == 12
    rows = list(csv.DictReader((tmp_path / "out" / "dropped.csv").open()))
    reasons = {row["where"]: row["reason"] for row in rows}
    assert reasons["reports.csv row 15"] == "the same study and image is listed before"
    for split in SPLITS:
        reader = SampleReader(packed.split(split)) if packed.counts(split)["samples"] else None
        assert reader is None or "once more" not in str(
            [reader.meta(number)["report"] for number in range(len(reader.index))]
        )


def test_a_jpeg_decoded_at_half_size_is_the_shrunk_whole_one(tmp_path: Path) -> None:
    whole, reduced = table(tmp_path), table(tmp_path, at_least=40)
    for entry in whole.entries()[:-1]:
        full, half = whole.record(entry), reduced.record(entry)
        assert half.full_size == full.image.shape == (160, 200)
        assert half.image.shape == (40, 50)
        exact = cv2.resize(full.image, (50, 40), interpolation=cv2.INTER_AREA)
        difference = half.image.astype(float) - exact
        assert abs(difference.mean()) < 0.2 and np.sqrt(np.square(difference).mean()) < 1.5


def test_a_turned_jpeg_decoded_at_half_size_stays_upright(tmp_path: Path) -> None:
    source = table(tmp_path, at_least=40)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.open(tmp_path / "secret-0.jpg").save(tmp_path / "secret-0.jpg", quality=95, exif=exif)
    record = source.record(source.entries()[0])
    assert (record.image.shape, record.full_size) == ((50, 40), (200, 160))


def test_an_estimate_says_what_packing_takes_and_writes_nothing(tmp_path: Path) -> None:
    source = StudySource(80)
    found = estimate(source, plan(source, OPTIONS), OPTIONS, workers=2)
    assert list(tmp_path.iterdir()) == []
    pack(source, tmp_path / "out", OPTIONS, workers=1, progress=False)
    manifest = PackedSet.open(tmp_path / "out").manifest
    assert found.records == {split: manifest["counts"][split]["samples"] for split in SPLITS}
    assert found.shards == len(manifest["shards"])
    # A tar is filled up to a multiple of 10,240 bytes.
    assert found.bytes == pytest.approx(sum(shard["bytes"] - 10_240 / 2 for shard in manifest["shards"]), rel=0.05)
    assert 0 < found.seconds < 60 and found.kept_share == 1


def test_a_progress_bar_tells_what_is_done_and_how_long_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(TinySource(), tmp_path / "out", OPTIONS, workers=1)
    told = capsys.readouterr().err
    assert re.search(r"packing tiny: +0%\|.*\| 0/60 \[00:00<\?, \?image/s\]", told), told
    assert re.search(r"packing tiny: 100%\|.*\| 60/60 \[\d\d:\d\d<00:00, ", told), told


def test_the_estimate_command_prints_and_writes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "out", "--estimate"), check=True, capture_output=True, text=True)
    assert "records   " in done.stdout and "shards    about 35" in done.stdout
    numbers = subprocess.run(
        command(tmp_path / "out", "--estimate", "--json"), check=True, capture_output=True, text=True
    )
    assert json.loads(numbers.stdout)["shards"] == 35
    assert list(tmp_path.iterdir()) == []


@pytest.mark.evidence("Sets are packed to and read from S3 (moto's server)", how="cpu")
def test_a_set_is_packed_to_s3_read_and_verified_there(
    phantom: Path, tmp_path: Path, moto_url: str, aws: pytest.MonkeyPatch
) -> None:
    aws.setenv("AWS_ENDPOINT_URL", moto_url)
    aws.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = command("s3://bucket/packed/phantom", "--workers", "2", "--staging", str(tmp_path / "staging"))
    for _ in range(2):  # the second finds it there
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        assert done.stdout.startswith("s3://bucket/packed/phantom: train ")
    assert not list((tmp_path / "staging").glob("*"))
    packed, local = PackedSet.open("s3://bucket/packed/phantom"), PackedSet.open(phantom)
    assert packed.fingerprint == local.fingerprint
    assert packed.tokenizer_path is not None and digests(packed.tokenizer_path) == digests(
        local.tokenizer_path or phantom
    )
    reader, beside = SampleReader(packed.split("train")), SampleReader(local.split("train"))
    for number in range(3):
        assert (reader.image(number), reader.meta(number)) == (beside.image(number), beside.meta(number))
    assert verify("s3://bucket/packed/phantom") == []
    recorded = {name: packed.manifest[name] for name in ("source", "options")}
    assert published("s3://bucket/packed/phantom", recorded) == packed.manifest
    with pytest.raises(DataError, match="holds a set of another source or other options"):
        published("s3://bucket/packed/phantom", recorded | {"options": {}})
    with pytest.raises(DataError, match="plain HTTP cannot be written to"):
        published(f"{moto_url}/bucket/x", recorded)


def test_an_interrupted_upload_sends_only_the_rest(
    phantom: Path, tmp_path: Path, moto_url: str, aws: pytest.MonkeyPatch
) -> None:
    aws.setenv("AWS_ENDPOINT_URL", moto_url)
    staged = _copy(phantom, tmp_path / "staged")
    names = [shard["file"] for shard in PackedSet.open(phantom).manifest["shards"]]
    (staged / ".uploaded").write_text(f"{names[0]}\n")
    publish(staged, "s3://bucket/packed/rest", progress=False)
    found = open_location("s3://bucket/packed/rest/train").list()
    assert found == sorted(Path(name).name for name in names[1:] if name.startswith("train/"))
    assert not staged.exists()


class TwiceSource(TinySource):
    """Every third report has two impressions."""

    def record(self, entry: Entry) -> Record:
        record = super().record(entry)
        return (
            replace(record, report=f"{record.report}\nIMPRESSION: Nothing of note.\nIMPRESSION: Nothing new.")
            if entry.payload % 3 == 0
            else record
        )


@pytest.mark.parametrize("workers", [1, 2])
def test_reports_with_a_section_twice_are_counted_in_the_log(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    pack(TwiceSource(6), tmp_path / "set", PackOptions(short_side=32), workers=workers, progress=False)
    assert "tiny: 4 reports have FINDINGS or IMPRESSION more than once; the last is read" in caplog.text
    caplog.clear()
    pack(TinySource(6), tmp_path / "other", PackOptions(short_side=32), workers=1, progress=False)
    assert "more than once" not in caplog.text
