"""Randomly damaged shards: no crash, every intact record delivered, every damaged one named by the reader and by verify."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from msvl.data.images import decode_image
from msvl.data.index import MEMBERS, SplitIndex
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.verify import verify
from tests.helpers.packed_sets import pack_studies

KINDS = ("flips", "cut", "zeroed", "name", "emptied", "moved")
BLOCK = 512


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_studies(tmp_path_factory.mktemp("packed") / "studies")


def damage(data: bytes, kind: str, headers: list[int], rng: np.random.Generator) -> bytes:
    """Return a shard's bytes with one fault."""
    changed = bytearray(data)
    start = int(rng.integers(len(data)))
    if kind == "flips":
        for place in rng.integers(len(data), size=int(rng.integers(1, 20))):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del changed[start:]
    elif kind == "zeroed":
        end = min(len(data), start + int(rng.integers(1, 8 * BLOCK)))
        changed[start:end] = bytes(end - start)
    elif kind == "name":
        header = headers[int(rng.integers(len(headers)))]
        changed[header : header + 6] = b"wrong."
    elif kind == "emptied":
        changed.clear()
    elif kind == "moved":
        changed[start:start] = rng.bytes(int(rng.integers(1, 700)))
    return bytes(changed)


def check(index: SplitIndex, shard: int, original: bytes, changed: bytes, root: Path) -> str:
    """Damage one shard on the disk, read it, verify it, put it back; return what happened."""
    records = index.records[index.shard_rows(shard).start : index.shard_rows(shard).stop]
    spans = [
        [(int(o), int(o) + int(s)) for o, s in zip(record["offset"], record["size"], strict=True) if o]
        for record in records
    ]
    hit = {
        row
        for row, places in zip(index.shard_rows(shard), spans, strict=True)
        if any(changed[low:high] != original[low:high] for low, high in places)
    }
    path = index.shard_path(shard)
    path.write_bytes(changed)
    reader = SampleReader(index)
    failed = set()
    for row in index.shard_rows(shard):
        try:
            decode_image(reader.image(row))
            assert reader.meta(row)["report"]
            reader.mask(row)
        except ValueError as error:
            assert any(name in str(error) for name in (*MEMBERS, "shard")), error
            failed.add(row)
    reader.close()
    assert failed == hit, "every intact record is delivered, every damaged one named"
    faults = verify(root)
    path.write_bytes(original)
    if changed == original:
        assert not faults
        return "unchanged"
    assert [fault.shard for fault in faults] == [str(path)] * (1 + len(hit))
    assert {fault.key for fault in faults} == {""} | {index.key(row) for row in hit}
    return "records" if hit else "shard only"


def run(studies: Path, tmp_path: Path, count: int) -> dict[str, int]:
    root = tmp_path / "set"
    shutil.copytree(studies, root)
    index = PackedSet.open(root).split("train")
    originals, headers = [], []
    for shard in range(len(index.shards)):
        originals.append(index.shard_path(shard).read_bytes())
        with tarfile.open(index.shard_path(shard)) as tar:
            headers.append([member.offset for member in tar])
    rng = np.random.default_rng(5)
    seen: dict[str, int] = {}
    for number in range(count):
        shard = int(rng.integers(len(index.shards)))
        kind = KINDS[number % len(KINDS)]
        changed = damage(originals[shard], kind, headers[shard], rng)
        outcome = check(index, shard, originals[shard], changed, root)
        seen[f"{kind}: {outcome}"] = seen.get(f"{kind}: {outcome}", 0) + 1
    return seen


def test_a_hundred_damaged_shards_lose_only_what_is_damaged(studies: Path, tmp_path: Path) -> None:
    seen = run(studies, tmp_path, 96)
    assert sum(number for name, number in seen.items() if name.endswith("records")) > 48, seen
    assert any(name.startswith("name: shard only") for name in seen), seen


@pytest.mark.slow
@pytest.mark.evidence("1,000 damaged shards: every intact record delivered, every damaged one named", how="cpu")
def test_a_thousand_damaged_shards_lose_only_what_is_damaged(studies: Path, tmp_path: Path) -> None:
    seen = run(studies, tmp_path, 1000)
    assert sum(seen.values()) == 1000
    assert sum(number for name, number in seen.items() if name.endswith("records")) > 500, seen
