"""Stored token ids: equal to those made while reading, never stale, made once, gone with what was forgotten."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from msvl.cli import main
from msvl.config.errors import DataError
from msvl.data import make_tokens
from msvl.data.batch import Batch
from msvl.data.config import DataConfig, ReportConfig
from msvl.data.forget import forget
from msvl.data.make_tokens import TextSource, find_tokens, stored_tokens, tokens_of_run
from msvl.data.pack_options import PackOptions
from msvl.data.packed import PackedSet
from msvl.data.planned_steps import Share
from msvl.data.sample import read_sentences, report_fields
from msvl.data.storage import RemoteConfig
from msvl.data.stream import training_batches
from msvl.data.texts import sentence_hash
from msvl.data.token_store import TEXT_VERSION, TokenStore
from msvl.data.tokenise import ReportTokeniser, train_tokenizer
from msvl.data.training_data import TrainingData
from msvl.data.verify import verify
from tests.helpers.object_server import serve_objects
from tests.helpers.packed_sets import pack_studies, serve_set

OPTIONS = PackOptions(short_side=32, shard_samples=20, tokenizer_vocabulary=120)
FIELDS = ("input_ids", "attention_mask", "sentence_index", "sentence_mask")


@pytest.fixture(scope="module")
def packed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_studies(tmp_path_factory.mktemp("packed") / "studies", OPTIONS)


@pytest.fixture
def studies(packed_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return shutil.copytree(packed_once, tmp_path / "studies")


def report_of(**changes: object) -> ReportConfig:
    return ReportConfig(**{"max_tokens": 24, "max_sentences": 3, "max_words": 9} | changes)  # type: ignore[arg-type]


def source_of(folder: Path | str, report: ReportConfig, tokenizer: Path | None = None) -> TextSource:
    packed = PackedSet.open(folder)
    return TextSource.of(packed, "train", ReportTokeniser(str(tokenizer or packed.tokenizer_path), report), report)


def stream(
    config: DataConfig, stored: list[TokenStore | None] | None, *, steps: int = 25, tokenizer: Path
) -> Iterator[Batch]:
    plan = TrainingData.open(config, 3).plan
    tokeniser = ReportTokeniser(str(tokenizer), config.report)
    batches = training_batches(plan, config, tokeniser, Share(8), start_step=0, stored=stored)
    return (next(batches) for _ in range(steps))


def assert_equal(one: Batch, other: Batch) -> None:
    assert (one.keys, one.step, one.fills) == (other.keys, other.step, other.fills)
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.ids.stacked(), other.ids.stacked())
    for name in FIELDS:
        mine, theirs = getattr(one.tokens, name), getattr(other.tokens, name)
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), name


@pytest.mark.evidence("Stored token ids give the batches that tokenising while reading gives, to the bit", how="cpu")
@pytest.mark.parametrize("sampling", ["all", "shuffle", "random_subset"])
@pytest.mark.parametrize("unit", ["sentence", "word"])
@pytest.mark.parametrize("min_words", [2, 4])
def test_batches_are_those_of_the_online_tokeniser(
    studies: Path, tmp_path: Path, sampling: str, unit: str, min_words: int
) -> None:
    second = shutil.copytree(studies, tmp_path / "second")
    report = report_of(sentence_sampling=sampling, unit=unit, min_words=min_words, impression_share=0.4)
    mix = {str(studies): 3.0, str(second): 1.0}
    config = DataConfig(path=str(studies), mix=mix, image_size=16, workers=0, report=report)
    tokenizer = studies / "tokenizer"
    store = stored_tokens(source_of(studies, report), workers=1, progress=False)
    online = list(stream(config, None, tokenizer=tokenizer))
    for stored in ([store, None], [store, stored_tokens(source_of(second, report, tokenizer), workers=1)]):
        for one, other in zip(online, stream(config, stored, tokenizer=tokenizer), strict=True):
            assert_equal(one, other)


def test_loader_processes_read_the_same(studies: Path) -> None:
    report = report_of(sentence_sampling="shuffle")
    config = DataConfig(path=str(studies), image_size=16, workers=2, report=report)
    store = stored_tokens(source_of(studies, report), workers=1)
    alone = config.model_copy(update={"workers": 0})
    for one, other in zip(
        stream(alone, None, tokenizer=studies / "tokenizer"),
        stream(config, [store], tokenizer=studies / "tokenizer"),
        strict=True,
    ):
        assert_equal(one, other)


def test_packing_with_a_tokenizer_makes_them(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_tokens, "write_tokens", lambda *_, **__: pytest.fail("they are there already"))
    source = source_of(studies, ReportConfig())
    store = stored_tokens(source, workers=1)
    assert store.folder.parent == studies / "tokens"
    listed = PackedSet.open(studies).manifest["files"]
    assert {f"tokens/{store.folder.name}/{path.name}" for path in store.folder.iterdir()} <= listed.keys()


def test_options_that_are_applied_while_reading_make_no_others(studies: Path) -> None:
    plainly = source_of(studies, ReportConfig())
    other = source_of(studies, report_of(sentence_sampling="shuffle", impression_share=0.3))
    assert plainly.name == other.name


@pytest.mark.parametrize("change", ["tokenizer", "sections", "min_words", "unit", "index"])
def test_whatever_decides_the_ids_makes_others(studies: Path, tmp_path: Path, change: str) -> None:
    before = source_of(studies, ReportConfig())
    report = ReportConfig(
        **{"sections": {"sections": ("impression",)}, "min_words": {"min_words": 3}, "unit": {"unit": "word"}}.get(
            change, {}
        )  # type: ignore[arg-type]
    )
    tokenizer = None
    if change == "tokenizer":
        tokenizer = tmp_path / "other"
        train_tokenizer(["No effusion is seen. The heart is number 0123456789 in size. Normal chest."], 100, tokenizer)
    if change == "index":
        forget(str(studies), [PackedSet.open(studies).split("train").key(0)], [])
    after = source_of(studies, report, tokenizer)
    assert after.name != before.name
    assert find_tokens(after) is None
    assert len(stored_tokens(after, workers=1).folder.parts)


def rows_of(store: TokenStore, rows: list[int]) -> list[list[int]]:
    taken = store.readings[0].take(np.array(rows), lambda counts: (np.arange(counts.sum()), counts)).reports
    ends = np.cumsum(np.add.reduceat(taken.sizes, np.cumsum(taken.counts) - taken.counts))
    return [part.tolist() for part in np.split(taken.tokens, ends[:-1])]


def test_damaged_ids_are_named_and_made_again(studies: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(studies, ReportConfig())
    store = find_tokens(source)
    assert store is not None
    content = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    (store.folder / "whole-tokens.bin").write_bytes(b"cut")
    (studies / "manifest.json").write_text((studies / "manifest.json").read_text())
    assert find_tokens(source) is None
    assert "are damaged (whole-tokens.bin has 3 bytes instead of" in caplog.text
    again = stored_tokens(source, workers=1)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == content


def test_ids_of_other_facts_under_the_same_name_are_not_used(studies: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(studies, ReportConfig())
    store = find_tokens(source)
    assert store is not None
    about = json.loads((store.folder / "about.json").read_text())
    about["facts"]["tokenizer"] = "another"
    (store.folder / "about.json").write_text(json.dumps(about))
    assert find_tokens(source) is None
    assert "about.json tells of other ids" in caplog.text


def test_processes_that_ask_at_once_make_them_once(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    write = make_tokens.write_tokens

    def counted(source: TextSource, folder: Path, **options: object) -> list[str]:
        made.append(folder)
        return write(source, folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(make_tokens, "write_tokens", counted)
    report = report_of(min_words=3)
    (studies / "tokens" / ".0123.part").mkdir()
    with ThreadPoolExecutor(6) as pool:  # flock holds between open files, whoever opened them
        sources = [source_of(studies, report) for _ in range(6)]
        stores = list(pool.map(lambda source: stored_tokens(source, workers=1, progress=False), sources))
    assert len(made) == 1
    assert len({store.folder for store in stores}) == 1
    assert not list((studies / "tokens").glob(".*")), "what a killed one left is removed"


def test_a_set_that_cannot_be_written_to_has_them_in_the_users_cache(studies: Path, tmp_path: Path) -> None:
    shutil.rmtree(studies / "tokens")
    manifest = json.loads((studies / "manifest.json").read_text())
    manifest["files"] = {name: file for name, file in manifest["files"].items() if not name.startswith("tokens/")}
    (studies / "manifest.json").write_text(json.dumps(manifest))
    (studies / "tokens").write_text("in the way, as a read-only disk is")
    source = source_of(studies, ReportConfig())
    assert stored_tokens(source, workers=1).folder.parent == tmp_path / "home" / "msvl" / "tokens"
    assert find_tokens(source) is not None
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "home").write_text("in the way too")
    with pytest.raises(DataError, match=r"kept nowhere: .*tokens.*free space.*data\.token_ids=online"):
        stored_tokens(source, workers=1)


def damage_text(folder: Path, row: int) -> bytes:
    index = PackedSet.open(folder).split("train")
    path = index.shard_path(index.shard(row))
    before = path.read_bytes()
    offset = int(index.records["offset"][row, 1])
    path.write_bytes(before[:offset] + b"\xff" * 20 + before[offset + 20 :])
    return before


def test_a_text_that_could_not_be_read_is_read_anew(studies: Path) -> None:
    report = report_of(min_words=3)
    config = DataConfig(path=str(studies), image_size=16, workers=0, report=report, images="all", max_bad_share=0.5)
    index = PackedSet.open(studies).split("train")
    before = damage_text(studies, 4)
    store = stored_tokens(source_of(studies, report), workers=1)
    assert not store.readings[0].has(4) and store.readings[0].has(5)
    tokenizer = studies / "tokenizer"
    dirty = list(stream(config, [store], tokenizer=tokenizer))
    assert {fault.key for batch in dirty for fill in batch.fills for fault in fill.faults} == {index.key(4)}
    for one, other in zip(dirty, stream(config, None, tokenizer=tokenizer), strict=True):
        assert_equal(one, other)
    index.shard_path(index.shard(4)).write_bytes(before)
    for one, other in zip(
        stream(config, [store], tokenizer=tokenizer), stream(config, None, tokenizer=tokenizer), strict=True
    ):
        assert_equal(one, other)
        assert not one.fills


@pytest.mark.evidence(
    "A text that is damaged after its ids were made is skipped and named, as where texts are read", how="cpu"
)
def test_a_text_damaged_after_its_ids_were_made_is_named(studies: Path) -> None:
    config = DataConfig(path=str(studies), image_size=16, workers=0, images="all", max_bad_share=0.5)
    store = stored_tokens(source_of(studies, config.report), workers=1)
    damage_text(studies, 4)
    assert store.readings[0].has(4)
    dirty = list(stream(config, [store], tokenizer=studies / "tokenizer"))
    faults = {fault for batch in dirty for fill in batch.fills for fault in fill.faults}
    assert {fault.key for fault in faults} == {PackedSet.open(studies).split("train").key(4)}
    assert {fault.reason for fault in faults} == {
        "the bytes of its text are not those that were packed (CRC-32 differs)"
    }
    for one, other in zip(dirty, stream(config, None, tokenizer=studies / "tokenizer"), strict=True):
        assert_equal(one, other)


def test_several_processes_write_the_same_bytes(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(studies, report_of(unit="word"))
    make_tokens.write_tokens(source, tmp_path / "one", workers=1, progress=False)
    monkeypatch.setattr(make_tokens, "ALONE", 0)
    monkeypatch.setattr(make_tokens, "CHUNK", 7)
    make_tokens.write_tokens(source, tmp_path / "two", workers=2, progress=False)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 9
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_a_remote_set_brings_those_of_its_packing(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    quick = RemoteConfig(attempts=2, timeout_seconds=2, backoff_seconds=0.01)
    with serve_objects() as server:
        url = serve_set(studies, server)
        packed = PackedSet.open(url, remote=quick)
        report = ReportConfig()
        tokeniser = ReportTokeniser(str(packed.tokenizer_path), report)
        (found,) = tokens_of_run([packed], "train", tokeniser, report)
        assert found is not None and found.folder.is_relative_to(packed.path)
        other = ReportConfig(min_words=3)
        assert tokens_of_run([packed], "train", tokeniser, other) == [None]
        assert f"`msvl data tokenise {url} --tokenizer" in caplog.text
        assert main(["data", "tokenise", url, "--min-words", "3", "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["made"] and Path(made["folder"]).is_relative_to(tmp_path / "home")
        (found,) = tokens_of_run([packed], "train", ReportTokeniser(str(packed.tokenizer_path), other), other)
        assert found is not None and rows_of(found, [0, 5]) == rows_of(
            stored_tokens(source_of(studies, other), workers=1), [0, 5]
        )


def test_the_command_says_where_they_are(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "tokenise", str(studies), "--min-words", "3"]) == 0
    assert "token ids of" in capsys.readouterr().out
    assert main(["data", "tokenise", str(studies), "--min-words", "3"]) == 0
    assert "token ids are there already" in capsys.readouterr().out
    assert main(["data", "tokenise", str(studies), "--min-words", "0"]) == 2
    assert "--min-words 0: give a whole number from 1 on" in capsys.readouterr().err


def test_what_is_forgotten_leaves_no_ids(studies: Path, tmp_path: Path) -> None:
    report = ReportConfig(min_words=3)
    stored_tokens(source_of(studies, report), workers=1)
    home = tmp_path / "home" / "msvl" / "tokens"
    shutil.copytree(studies / "tokens", home)
    forget(str(studies), [PackedSet.open(studies).split("train").key(2)], [])
    assert not list((studies / "tokens").glob("*/about.json")) and not list(home.glob("*/about.json"))
    assert not any(name.startswith("tokens/") for name in PackedSet.open(studies).manifest["files"])
    after = stored_tokens(source_of(studies, report), workers=1)
    assert after.folder.is_dir() and verify(studies) == []


def test_verify_names_damaged_ids(studies: Path) -> None:
    store = stored_tokens(source_of(studies, ReportConfig(min_words=3)), workers=1)
    assert verify(studies, progress=False) == []
    path = store.folder / "whole-tokens.bin"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))
    assert [Path(fault.shard).name for fault in verify(studies, progress=False)] == ["whole-tokens.bin"]


TEXTS = (
    "FINDINGS: PA and lateral views. There is a 3.5 cm mass; no effusion. Dr. Smith was told at 3:04 a.m. by phone.\n"
    "IMPRESSION: 1. Mass, likely malignant.\n2. No pneumothorax",
    "XXXX. Heart size is normal ___ and the lungs are clear. Abnormality ..\n\nFinal line without a stop",
    "WET READ: none.\nFINDINGS AND IMPRESSION: Ünïcode naïve \u2022 Größe normal. e.g. small-bore tube's tip in place.",
    "IMPRESSION: Small effusion. This report has been anonymized. All dates are offset from the actual dates.",
)


def test_the_version_of_the_text_code_is_raised_when_its_results_change() -> None:
    found = [
        [(sentence, sentence_hash(sentence)) for sentence in read_sentences(fields, ReportConfig(), impression=alone)]
        for fields in map(report_fields, TEXTS)
        for alone in (False, True)
    ]
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
    assert (TEXT_VERSION, digest) == (3, "dcd60d6f308cf786"), (
        "raise TEXT_VERSION: stored token ids must not outlive this change"
    )
