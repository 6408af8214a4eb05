"""Format 2 of a packed set: the index, what opening finds out, and sets that are elsewhere."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.cache import CacheConfig
from msvl.data.config import DataConfig
from msvl.data.index import IMAGE, TEXT, Shard, SplitIndex, record_type, write_records
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.reader import SampleReader
from msvl.data.shard_files import ShardFault
from msvl.data.storage import RemoteConfig, open_location
from tests.helpers.object_server import serve_objects
from tests.helpers.packed_sets import pack_studies, serve_set

QUICK = RemoteConfig(attempts=2, timeout_seconds=2, backoff_seconds=0.01)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_studies(tmp_path_factory.mktemp("packed") / "studies")


def contents(path: str | Path, **options: object) -> dict[str, tuple[bytes, dict]]:
    packed = PackedSet.open(path, **options)  # type: ignore[arg-type]
    found = {}
    for split in SPLITS:
        reader = SampleReader(packed.split(split))
        for number in range(len(reader.index)):
            found[reader.key(number)] = (reader.image(number), reader.meta(number))
        reader.close()
    return found


def test_the_index_holds_what_a_tar_reader_finds(studies: Path) -> None:
    index = PackedSet.open(studies).split("train")
    for number in range(len(index.shards)):
        with tarfile.open(index.shard_path(number)) as tar:
            members = {item.name: (item.offset_data, item.size, tar.extractfile(item).read()) for item in tar}  # type: ignore[union-attr]
        rows = index.shard_rows(number)
        assert {f"{index.key(row)}.json" for row in rows} == {name for name in members if name.endswith("json")}
        for row in rows:
            record = index.records[row]
            for role, extension in ((IMAGE, "jpg"), (TEXT, "json")):
                offset, size, data = members[f"{index.key(row)}.{extension}"]
                assert (record["offset"][role], record["size"][role]) == (offset, size)
                assert record["crc32"][role] == zlib.crc32(data)
            meta = json.loads(members[f"{index.key(row)}.json"][2])
            assert (f"{record['study']:016x}", f"{record['patient']:016x}") == (meta["study"], meta["patient"])
            assert f"{record['text']:016x}" == meta["text_hash"]


def test_samples_of_a_study_are_neighbours_in_one_shard(studies: Path) -> None:
    packed = PackedSet.open(studies)
    index = packed.split("train")
    assert len(index.shards) > 1
    assert max(index.samples_per_shard) <= 20
    seen: set[int] = set()
    for number in range(len(index.shards)):
        starts = index.study_starts(number)
        rows = index.shard_rows(number)
        assert len(starts) == index.studies_per_shard[number]
        for start, end in zip(starts, [*starts[1:], rows.stop], strict=True):
            assert len({index.study(row) for row in range(start, end)}) == 1
            assert index.study(start) not in seen
            seen.add(index.study(start))
        assert {index.shard(row) for row in rows} == {number}
    assert sum(index.samples_per_shard) == len(index)
    assert len(seen) == packed.counts("train")["studies"]


def test_an_index_travels_without_its_records(studies: Path) -> None:
    index = PackedSet.open(studies).split("train")
    assert len(index.records) == len(index)
    copy = pickle.loads(pickle.dumps(index))
    assert len(pickle.dumps(index)) < 84 * len(index)
    assert isinstance(copy, SplitIndex) and copy.keys == index.keys


def test_format_one_is_refused_with_the_cure(studies: Path, tmp_path: Path) -> None:
    copy = tmp_path / "old"
    shutil.copytree(studies, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(DataError, match=r"has format 1, this msvl reads 3: pack the source again$"):
        PackedSet.open(copy)


@pytest.mark.parametrize("damage", ["cut", "missing", "rubbish"])
def test_a_damaged_index_is_named(studies: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "set"
    shutil.copytree(studies, copy)
    file = copy / "index" / "train.npy"
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-50] if damage == "cut" else bytes(len(data)))
    with pytest.raises(DataError, match=r"train\.npy|index is damaged"):
        PackedSet.open(copy)


def test_a_cut_shard_costs_its_tail_and_is_named(
    studies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "set"
    shutil.copytree(studies, copy)
    index = PackedSet.open(copy).split("train")
    last = index.shard_rows(0)[-2:]
    cut = int(index.records["offset"][last[0]].min())
    with open(index.shard_path(0), "r+b") as stream:
        stream.truncate(cut + 5)
    with pytest.raises(DataError, match=rf"shard-000000\.tar has {cut + 5:,} bytes instead of .*copy it again"):
        PackedSet.open(copy)
    packed = PackedSet.open(copy, max_bad_share=0.1)
    assert "shard-000000.tar has" in caplog.text and "(2 of 160 samples are lost)" in caplog.text
    reader = SampleReader(packed.split("train"))
    whole = contents(studies)
    for row in range(len(reader.index)):
        if row in last:
            with pytest.raises(ValueError, match="the shard ends inside it"):
                reader.image(row), reader.meta(row)
        else:
            assert (reader.image(row), reader.meta(row)) == whole[reader.key(row)]


def test_a_flipped_bit_is_found_and_costs_one_sample(studies: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(studies, copy)
    index = PackedSet.open(copy).split("train")
    with open(index.shard_path(0), "r+b") as stream:
        stream.seek(int(index.records["offset"][3, IMAGE]) + 700)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 1]))
    reader = SampleReader(index)
    with pytest.raises(ValueError, match="the bytes of its image are not those that were packed"):
        reader.image(3)
    assert reader.meta(3)["report"]
    assert reader.image(2) and reader.image(4)


def test_a_shard_that_cannot_be_opened_is_asked_for_once(studies: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(studies, copy)
    index = PackedSet.open(copy).split("train")
    path = index.shard_path(1)
    path.rename(path.with_suffix(".away"))
    reader = SampleReader(index)
    row = index.shard_rows(1)[0]
    with pytest.raises(ShardFault, match="cannot be opened") as caught:
        reader.image(row)
    assert caught.value.shard == 1 and pickle.loads(pickle.dumps(caught.value)).shard == 1
    path.with_suffix(".away").rename(path)
    with pytest.raises(ShardFault, match="cannot be opened"):
        reader.image(row)
    reader.close()
    assert reader.image(row)


@pytest.mark.parametrize("cached", [False, True])
def test_a_set_on_a_web_server_is_read_as_on_a_disk(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache = CacheConfig(folder=str(tmp_path / "blocks"), block_mb=0.02) if cached else None
    with serve_objects() as server:
        url = serve_set(studies, server)
        assert contents(url, remote=QUICK, cache=cache) == contents(studies)
        assert len(server.ranges_of("/set/index/train.npy")) == 1
        assert PackedSet.open(url, remote=QUICK, cache=cache).fingerprint == PackedSet.open(studies).fingerprint
        assert len(server.ranges_of("/set/index/train.npy")) == 1, "the index is fetched once"
        reads = sum(
            len(server.ranges_of(f"/set/{shard.file}")) for shard in PackedSet.open(studies).split("train").shards
        )
        samples = len(PackedSet.open(studies).split("train"))
        assert reads < samples if cached else reads == 2 * samples
    kept = tmp_path / ("blocks" if cached else "home/msvl") / "sets"
    assert len(list(kept.iterdir())) == 1


def test_a_cut_object_behind_the_cache_costs_its_tail(studies: Path, tmp_path: Path) -> None:
    cache = CacheConfig(folder=str(tmp_path / "blocks"), block_mb=1)
    with serve_objects() as server:
        url = serve_set(studies, server)
        index = PackedSet.open(url, remote=QUICK, cache=cache).split("train")
        rows = index.shard_rows(0)
        end = int((index.records["offset"] + index.records["size"])[rows[4]].max())
        server.objects[f"/set/{index.shards[0].file}"] = server.objects[f"/set/{index.shards[0].file}"][:end]
        reader = SampleReader(index)
        assert all(reader.image(row) and reader.meta(row) for row in rows[:5])
        with pytest.raises(ValueError, match="the shard ends inside it") as caught:
            reader.image(rows[5])
        assert not isinstance(caught.value, ShardFault)


def test_a_remote_shard_that_stays_broken_is_asked_for_once(studies: Path, tmp_path: Path) -> None:
    with serve_objects() as server:
        url = serve_set(studies, server)
        index = PackedSet.open(url, remote=QUICK, cache=CacheConfig(folder=str(tmp_path / "blocks"))).split("train")
        del server.objects[f"/set/{index.shards[0].file}"]
        reader = SampleReader(index)
        for row in index.shard_rows(0):
            with pytest.raises(ShardFault, match=r"shard-000000\.tar.*not found"):
                reader.image(row)
        assert len(server.ranges_of(f"/set/{index.shards[0].file}")) == 1
        assert reader.image(index.shard_rows(1)[0])


def test_a_remote_set_that_is_not_there_or_changed_is_named(studies: Path, tmp_path: Path) -> None:
    cache = CacheConfig(folder=str(tmp_path / "blocks"))
    with serve_objects() as server:
        with pytest.raises(DataError, match=r"http://.*/none is no packed set \(no manifest\.json\): make it with"):
            PackedSet.open(f"{server.url}/none", remote=QUICK, cache=cache)
        url = serve_set(studies, server)
        data = bytearray(server.objects["/set/index/train.npy"])
        data[-1] ^= 1
        server.objects["/set/index/train.npy"] = bytes(data)
        with pytest.raises(DataError, match=r"train\.npy is not the file that the manifest describes: copy the set"):
            PackedSet.open(url, remote=QUICK, cache=cache)


def test_the_configuration_names_cache_and_attempts(studies: Path, tmp_path: Path) -> None:
    with serve_objects() as server:
        url = serve_set(studies, server)
        cache = {"folder": str(tmp_path / "blocks"), "max_gb": 1.0}
        config = DataConfig.model_validate({"path": url, "cache": cache, "remote": {"attempts": 2}})
        index = PackedSet.from_config(config).split("val")
        assert SampleReader(index).image(0)
        assert list((tmp_path / "blocks" / "blocks").iterdir())


def test_a_mapped_index_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    from msvl.data.index import read_records, record_type, write_records

    many = np.zeros(200_000, dtype=record_type())
    many["key"] = np.arange(200_000)
    write_records(tmp_path / "train.npy", [many[:150_000], many[150_000:]])
    before = anonymous_kib()
    records = read_records(tmp_path / "train.npy")
    assert int(records["key"][199_999]) == 199_999
    assert anonymous_kib() - before < 1000, "17 MB of records"


def anonymous_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def test_records_that_were_let_go_leave_memory_and_can_be_read_again(tmp_path: Path) -> None:
    def mapped_mb() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssFile"))

    count, shards = 50_000, 5
    records = np.zeros(shards * count, dtype=record_type())
    records["study"] = np.arange(shards * count) // 2
    records["shard"] = np.arange(shards * count) // count
    write_records(tmp_path / "train.npy", [records])
    listed = [Shard(f"{number}.tar", count, count // 2, 1, "") for number in range(shards)]
    index = SplitIndex("train", open_location(tmp_path), listed, tmp_path / "train.npy")
    before = mapped_mb()
    assert index.records["study"].sum() == records["study"].sum()
    full = mapped_mb()
    assert full - before > 15
    for number in range(shards - 1):
        index.let_go(number)
    assert mapped_mb() - before < 0.3 * (full - before)
    assert np.array_equal(index.records, records)
