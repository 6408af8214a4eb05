"""Overlap between packed sets and their splits, against what is known of the copies they were made of."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvl.data.forget import forget
from msvl.data.images import decode_image
from msvl.data.index import IMAGE
from msvl.data.leaks.compare import Overlap, compare_all
from msvl.data.leaks.fingerprint import WITHIN
from msvl.data.leaks.group import Argument, no_detail
from msvl.data.leaks.set_names import set_argument
from msvl.data.leaks.set_prints import PRINT, prints_of
from msvl.data.leaks.tell import as_json, as_text, notes
from msvl.data.pack import pack
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sources.table import TableColumns, TableSource
from tests.data.leaks.copies import pack_table, pictures, recompressed, resized, sixteen_bits, windowed, write_table
from tests.helpers.packed_sets import OPTIONS, pack_studies
from tests.helpers.runs import execute

LEAKS = [sys.executable, "-m", "msvl.cli", "data", "leaks"]


@pytest.fixture(scope="module")
def pool() -> list[np.ndarray]:
    return pictures(40)


def read(*paths: Path) -> list[Argument]:
    return [set_argument(PackedSet.open(path), workers=1, progress=False) for path in paths]


def between(overlaps: list[Overlap], first: str, second: str) -> Overlap:
    return next(item for item in overlaps if (str(item.first), str(item.second)) == (first, second))


def report(number: int) -> str:
    return f"The heart is number {number} in size. No effusion is seen."


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory, pool: list[np.ndarray]) -> Path:
    """20 images of 10 patients, like NIH ChestX-ray14: 8-bit PNG at full size."""
    rows = [(f"{n // 2:08d}_{n % 2:03d}.png", str(n // 2), "train" if n < 14 else "test", report(n)) for n in range(20)]
    images = {row[0]: pool[n] for n, row in enumerate(rows)}
    return pack_table(tmp_path_factory.mktemp("nih"), rows, images, name="nih")


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory, pool: list[np.ndarray]) -> Path:
    """12 images, 8 of them the NIH set's first, re-encoded, of another size and grey range; every image its own patient."""
    changed = [
        recompressed(resized(windowed(picture, 0.02, 0.99), 180), 80) if n % 2 else sixteen_bits(picture)
        for n, picture in enumerate([*pool[:8], *pool[30:34]])
    ]
    rows = [(f"rsna-{n}.png", f"rsna-{n}", "test" if n < 4 else "train", report(100 + n)) for n in range(12)]
    images = {row[0]: picture for row, picture in zip(rows, changed, strict=True)}
    return pack_table(tmp_path_factory.mktemp("rsna"), rows, images, name="rsna", short_side=160)


@pytest.mark.evidence(
    "`msvl data leaks` finds images that two sets share, whatever their size, compression and grey range", how="cpu"
)
def test_images_of_one_set_in_another_are_found(nih: Path, rsna: Path) -> None:
    overlaps = compare_all(read(nih, rsna), within=WITHIN)
    whole = between(overlaps, str(nih), str(rsna))
    assert (whole.images, whole.near, whole.reached, whole.size) == (0, 8, 8, 12)
    assert whole.patients is None, "hashes keyed by two names cannot be compared"
    assert whole.leaks
    across = between(overlaps, f"{nih} train", f"{rsna} test")
    assert (across.near, across.size) == (4, 4)
    assert not between(overlaps, f"{nih} train", f"{nih} test").leaks


@pytest.mark.evidence(
    "Images that are near by chance are refuted by a second look; what cannot be looked at is a candidate", how="cpu"
)
def test_candidates_of_the_fingerprint_are_looked_at_again(nih: Path, rsna: Path) -> None:
    first, second = read(nih, rsna)
    whole = between(compare_all([first, second], within=WITHIN), str(nih), str(rsna))
    assert whole.candidates == 0
    shared = first.joined().prints[np.flatnonzero(whole.leaking_first)[0]]

    def forged(**changes: Any) -> Overlap:
        """Compare with a set all of whose images have the fingerprint of one that both sets have."""
        groups = [replace(group, prints=np.tile(shared, (len(group), 1)), **changes) for group in second.groups]
        overlaps = compare_all([first, replace(second, groups=tuple(groups))], within=WITHIN)
        assert ("12 near-duplicates" in as_text(overlaps, [first, second])) == bool(changes)
        return between(overlaps, str(nih), str(rsna))

    seen, unseen = forged(), forged(detail=no_detail)
    assert (seen.near, seen.candidates, seen.reached) == (1, 0, 1)
    assert (unseen.near, unseen.candidates, unseen.reached) == (12, 12, 12)


def test_patients_compare_where_keys_and_numbers_do(tmp_path: Path, pool: list[np.ndarray]) -> None:
    first = [(f"{n}.png", str(n), "train", report(n)) for n in range(3)]
    second = [(f"{n}.png", str(n - 8), "test", report(n)) for n in range(10, 13)]  # patients 2, 3, 4

    def made(folder: str, rows: list, **options: str) -> Path:
        return pack_table(tmp_path / folder, rows, {row[0]: pool[int(row[0][:-4])] for row in rows}, **options)

    def shared(one: Path, other: Path) -> int | None:
        return between(compare_all(read(one, other), within=WITHIN), str(one), str(other)).patients

    mine = made("a", first, name="mine", id_key="secret")
    assert shared(mine, mine) == 3
    assert shared(mine, made("b", second, name="mine", id_key="secret")) == 1
    assert shared(mine, made("c", second, name="mine", id_key="other")) is None
    assert shared(mine, made("d", second, name="mine")) is None
    assert shared(mine, made("e", second, name="ours", id_key="secret")) is None, "1 of one is nobody of another"
    assert shared(mine, made("f", second, name="ours", id_key="secret", id_space="mine")) == 1
    unnamed = made("g", first)
    assert shared(unnamed, made("h", second)) is None, "nobody has said that one body numbers both"
    assert shared(unnamed, unnamed) == 3, "the same set"
    plain = made("i", first, name="mine")
    assert shared(plain, made("j", second, name="mine")) == 1
    assert any("pack them with the same --id-key" in note for note in notes(read(plain, mine)))


def test_patients_that_nobody_named_are_not_compared(tmp_path: Path, pool: list[np.ndarray]) -> None:
    write_table(tmp_path / "a", [("1.png", "", "train", report(1))], {"1.png": pool[1]})
    write_table(tmp_path / "b", [("1.png", "", "train", report(2))], {"1.png": pool[2]})
    sets = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        source = TableSource(folder, folder / "reports.csv", TableColumns(), name="mine")
        pack(source, folder / "set", replace(OPTIONS, val_share=0, test_share=0), workers=1, progress=False)
        sets.append(folder / "set")
    (overlap,) = compare_all(read(*sets), within=WITHIN)
    assert overlap.patients is None and not overlap.leaks
    assert any("--patient-column" in note for note in notes(read(*sets)))


def test_train_against_test_within_a_set(tmp_path: Path, pool: list[np.ndarray]) -> None:
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    rows = [(f"{n}.png", str(n), split, report(n if n != 7 else 0)) for n, split in enumerate(splits)]
    images = {f"{n}.png": pool[n] for n in range(12)}
    images["8.png"] = images["0.png"]  # the same pixels
    images["9.png"] = recompressed(images["1.png"], 50)
    images["7.png"] = windowed(images["2.png"], 0.03, 0.97)
    packed = pack_table(tmp_path, rows, images)
    overlaps = compare_all(read(packed), within=WITHIN)
    test = between(overlaps, f"{packed} train", f"{packed} test")
    assert (test.patients, test.studies, test.images, test.near, test.texts) == (0, 0, 1, 1, 0)
    assert (test.reached, test.size) == (2, 4)
    val = between(overlaps, f"{packed} train", f"{packed} val")
    assert (val.images, val.near, val.texts, val.reached) == (0, 1, 1, 1)
    assert not between(overlaps, f"{packed} val", f"{packed} test").leaks


@pytest.mark.evidence("The same set named twice is a leak, shared texts alone are none (exit codes)", how="cpu")
def test_exit_codes_table_and_json(nih: Path, tmp_path: Path, pool: list[np.ndarray]) -> None:
    rows = [(f"{n}.png", f"other-{n}", "train", report(n)) for n in range(5)]
    texts = pack_table(tmp_path / "texts", rows, {row[0]: pool[35 + n] for n, row in enumerate(rows)}, name="texts")
    alone = execute([*LEAKS, str(nih)])
    assert alone.code == 0, alone.output
    assert "no leak found" in alone.output
    shared = execute([*LEAKS, str(nih), str(texts), "--json"])
    assert shared.code == 0, shared.output
    told = json.loads(shared.output[shared.output.index("{") :])
    assert told["leak"] is False
    whole = next(item for item in told["comparisons"] if item["second"]["path"] == str(texts))
    assert (whole["texts"], whole["near"], whole["images"], whole["patients"]) == (5, 0, 0, None)
    twice = execute([*LEAKS, str(nih), str(nih), "--out", str(tmp_path / "leaks.csv")])
    assert twice.code == 1, twice.output
    assert f"LEAK: {nih} and {nih} share 10 patients, 20 images" in twice.output
    with open(tmp_path / "leaks.csv", newline="") as stream:
        rows_out = list(csv.DictReader(stream))
    assert {row["sample"] for row in rows_out} == {
        key for s in ("train", "test") for key in PackedSet.open(nih).split(s).keys
    }
    assert stat.S_IMODE((tmp_path / "leaks.csv").stat().st_mode) == 0o600


def test_samples_that_leak_can_be_taken_out(nih: Path, rsna: Path, tmp_path: Path, pool: list[np.ndarray]) -> None:
    out = tmp_path / "leaks.csv"
    assert execute([*LEAKS, str(nih), str(rsna), "--out", str(out)]).code == 1
    copy = tmp_path / "copy"
    assert execute(["cp", "-r", str(nih), str(copy)]).code == 0
    with open(out, newline="") as stream:
        keys = [row["sample"] for row in csv.DictReader(stream) if row["path"] == str(nih)]
    assert len(keys) == 8
    forget(str(copy), keys, [])
    assert not between(compare_all(read(copy, rsna), within=WITHIN), str(copy), str(rsna)).leaks


def test_fingerprints_are_kept_and_used_while_the_set_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = PackedSet.open(pack_studies(tmp_path / "set", OPTIONS))
    first = prints_of(packed, "train", workers=1, progress=False)
    assert first.kept_in == packed.path / "fingerprints" / "train.npz"
    assert stat.S_IMODE(first.kept_in.stat().st_mode) == 0o600
    marked = first.records.copy()
    marked["image"][0] += 1
    with np.load(first.kept_in) as content:
        np.savez(first.kept_in, title=content["title"], records=marked)
    assert prints_of(packed, "train", workers=1, progress=False).records["image"][0] == marked["image"][0]
    forget(str(packed.path), [packed.split("val").key(0)], [])
    changed = PackedSet.open(packed.path)
    again = prints_of(changed, "train", workers=1, progress=False)
    assert again.records["image"][0] == first.records["image"][0], "another manifest: computed again"
    first.kept_in.write_bytes(b"cut")
    assert np.array_equal(prints_of(changed, "train", workers=1, progress=False).records, first.records)


def test_a_set_that_cannot_be_written_to_is_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = PackedSet.open(pack_studies(tmp_path / "set", OPTIONS))
    (packed.path / "fingerprints").write_text("in the way")  # root may write everywhere
    found = prints_of(packed, "train", workers=1, progress=False)
    assert found.kept_in is not None and found.kept_in.is_relative_to(tmp_path / "cache" / "msvl")
    (tmp_path / "cache" / "msvl").rename(tmp_path / "gone")
    (tmp_path / "cache" / "msvl").write_text("in the way too")
    assert prints_of(packed, "train", workers=1, progress=False).kept_in is None


def test_several_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msvl.data.leaks.set_prints.ALONE", 0)
    monkeypatch.setattr("msvl.data.leaks.set_prints.CHUNK", 16)
    packed = PackedSet.open(pack_studies(tmp_path / "set", OPTIONS))
    alone = prints_of(packed, "train", workers=1, progress=False)
    assert alone.kept_in is not None
    alone.kept_in.unlink()
    assert np.array_equal(prints_of(packed, "train", workers=2, progress=False).records, alone.records)
    assert alone.records.dtype == PRINT and alone.records["bits"].any(axis=1).all()


def test_unreadable_and_empty_images_are_told(tmp_path: Path, pool: list[np.ndarray]) -> None:
    rows = [(f"{n}.png", str(n), "train", report(n)) for n in range(4)]
    images = {f"{n}.png": pool[n] for n in range(3)} | {"3.png": np.full((224, 224), 9, np.uint8)}
    packed = pack_table(tmp_path, rows, images)
    index = PackedSet.open(packed).split("train")
    reader = SampleReader(index)
    shown = next(row for row in range(4) if decode_image(reader.image(row)).std() > 1)
    reader.close()
    with open(index.shard_path(0), "r+b") as stream:
        stream.seek(int(index.records["offset"][shown, IMAGE]))
        stream.write(os.urandom(40))
    text = as_text([], read(packed))
    assert "1 images cannot be read" in text
    assert "1 images show nothing" in text
    assert as_json([], read(packed))["leak"] is False
