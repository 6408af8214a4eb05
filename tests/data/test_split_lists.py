"""Splits by published lists: the manifest names them by SHA-256, and what leaks in them is kept on request only."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from msvl.cli import main
from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.phantom.miniatures.nih_chestxray14 import pack_words
from msvl.data.sources.nih_chestxray14 import LISTS as NIH_LISTS
from msvl.data.split_lists import LISTS, ListedSource, read_split_lists
from msvl.evaluation.tuning.subsets import label_subset
from tests.helpers.miniatures import source_of, write_miniature

NIH = "nih-chestxray14"


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NIH, tmp_path_factory.mktemp("nih"), train=12, val=3, test=3)


def images_by_patient(folder: Path) -> dict[str, list[str]]:
    images: dict[str, list[str]] = {}
    for entry in source_of(NIH, folder).entries():
        images.setdefault(entry.patient, []).append(entry.image)
    return images


def write_lists(folder: Path, **lists: list[str]) -> list[str]:
    """Write lists as MRM's are, labels behind the names; return the options that name them."""
    folder.mkdir(exist_ok=True)
    words = []
    for name, images in lists.items():
        path = folder / f"{name}_list.txt"
        path.write_text("".join(f"{image} 0 1 0\n" for image in images))
        words += ["--split-list", f"{name}={path}"]
    return words


def pack(folder: Path, out: Path, *words: str) -> PackedSet:
    line = [
        "data",
        "pack",
        *pack_words(folder),
        "--out",
        str(out),
        "--short-side",
        "48",
        "--workers",
        "1",
        *words,
        "--debug",
    ]
    assert main(line) == 0
    return PackedSet.open(out)


def keys(packed: PackedSet, split: str) -> set[str]:
    return set(packed.split(split).keys)


@pytest.fixture(scope="module")
def lists(nih: Path) -> dict[str, list[str]]:
    patients = list(images_by_patient(nih).values())
    flat = [[image for images in part for image in images] for part in (patients[:9], patients[9:12], patients[12:15])]
    return dict(zip(SPLITS, flat, strict=True)) | {"train_10": flat[0][:2]}


@pytest.fixture(scope="module")
def packed(nih: Path, lists: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> PackedSet:
    folder = tmp_path_factory.mktemp("listed")
    return pack(nih, folder / "set", *write_lists(folder / "lists", **lists))


def test_what_is_on_no_list_is_told(
    nih: Path, lists: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [word for word in write_lists(tmp_path / "lists", **lists) if word != "--split-list"]
    ListedSource(source_of(NIH, nih), read_split_lists(words), as_published=False).entries()
    left_out = sum(map(len, images_by_patient(nih).values())) - sum(len(lists[split]) for split in SPLITS)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]  # which a terminal shows
    assert f"nih-chestxray14: {left_out} images stand on no list and are left out" in told


def test_images_go_where_the_lists_say_and_the_manifest_names_each_by_its_digest(
    nih: Path, packed: PackedSet, lists: dict[str, list[str]]
) -> None:
    folder = Path(packed.location.local_path).parent / "lists"
    assert packed.manifest["source"]["split_lists"] == {
        name: hashlib.sha256((folder / f"{name}_list.txt").read_bytes()).hexdigest() for name in lists
    }
    for split in SPLITS:
        assert packed.counts(split)["samples"] == len(lists[split])
    everything = sum(map(len, images_by_patient(nih).values()))
    assert sum(packed.counts(split)["samples"] for split in SPLITS) < everything, "what is on no list is left out"


def test_a_part_of_train_is_known_by_its_samples_and_is_the_share_that_is_learnt_from(
    packed: PackedSet, lists: dict[str, list[str]]
) -> None:
    train = EvaluationSet.load(packed, "train", image_size=32, report=ReportConfig())
    listed = [row for row, extra in enumerate(train.extras) if extra[LISTS] == ["train_10"]]
    assert len(listed) == len(lists["train_10"])
    assert label_subset(train, "10", seed=3).tolist() == listed
    assert len(label_subset(train, "100", seed=3)) == len(lists["train"])


def test_without_a_list_of_train_it_is_the_rest(nih: Path, lists: dict[str, list[str]], tmp_path: Path) -> None:
    packed = pack(nih, tmp_path / "set", *write_lists(tmp_path / "lists", val=lists["val"], test=lists["test"]))
    everything = sum(map(len, images_by_patient(nih).values()))
    assert packed.counts("train")["samples"] == everything - len(lists["val"]) - len(lists["test"])


def test_the_official_split_files_are_noted_too(nih: Path, tmp_path: Path) -> None:
    noted = pack(nih, tmp_path / "set").manifest["source"]["split_files"]
    assert set(noted) == set(NIH_LISTS)
    root = Path(source_of(NIH, nih)._root)  # type: ignore[attr-defined]
    assert noted["test_list.txt"] == hashlib.sha256((root / "test_list.txt").read_bytes()).hexdigest()


def test_an_image_in_two_lists_is_refused_and_kept_as_published(
    nih: Path, lists: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = {**lists, "test": lists["test"] + lists["train"][:1]}
    words = write_lists(tmp_path / "lists", **twice)
    with pytest.raises(DataError, match="train_list.txt and .*test_list.txt have 1 images in common"):
        pack(nih, tmp_path / "set", *words)
    packed = pack(nih, tmp_path / "set", *words, "--as-published")
    assert len(keys(packed, "train") & keys(packed, "test")) == 1
    assert packed.manifest["source"]["as_published"] is True
    assert "1 images in common, kept as published" in caplog.text and "1 patients are in two splits" in caplog.text


def test_a_patient_in_two_lists_is_refused(nih: Path, tmp_path: Path) -> None:
    several = [images for images in images_by_patient(nih).values() if len(images) > 1]
    assert several, "the miniature has a patient with two images"
    one, *others = several[0]
    rest = [image for images in images_by_patient(nih).values() for image in images if images != several[0]]
    words = write_lists(tmp_path / "lists", train=[one, *rest[:6]], val=rest[6:8], test=[*others, *rest[8:10]])
    with pytest.raises(DataError, match="its patient is in both train and test: mend the split column or list"):
        pack(nih, tmp_path / "set", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split-list", "test"], "--split-list test: give NAME=FILE"),
        (["--split-list", "test={val}", "--split-list", "test={val}"], "there are two lists of that name"),
        (["--split-list", "test={val}"], "there is no list for val: give val=FILE too"),
        (["--split-list", "val={val}", "--split-list", "test=nowhere.txt"], "nowhere.txt: there is no such file"),
        (["--split-list", "val={val}", "--split-list", "test={other}"], "1 of 1 images are not in the source"),
        (["--split-list", "val={val}", "--split-list", "test={test}", "--split-list", "train_1={val}"], "a part of train must be one"),
        (["--as-published"], "--as-published belongs to --split-list"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_lists_is_said(
    nih: Path, lists: dict[str, list[str]], tmp_path: Path, words: list[str], message: str
) -> None:
    write_lists(tmp_path, val=lists["val"], test=lists["test"], other=["1898_train_0_"])
    paths = {name: tmp_path / f"{name}_list.txt" for name in ("val", "test", "other")}
    with pytest.raises(DataError, match=message) as error:
        pack(nih, tmp_path / "set", *(word.format(**paths) for word in words))
    assert not (tmp_path / "set").exists()
    assert not any(image in str(error.value) for image in lists["val"]), "names of images are not told"


def test_lists_may_name_images_of_rsna_by_their_own_names_and_paths(tmp_path: Path) -> None:
    folder = write_miniature("rsna-pneumonia", tmp_path / "rsna", train=6)
    source = source_of("rsna-pneumonia", folder)
    names = [Path(entry.payload["path"]).name for entry in source.entries()]
    half = len(names) // 2
    (tmp_path / "val.txt").write_text("\n".join(name.removesuffix(".dcm") for name in names[:half]))
    (tmp_path / "test.txt").write_text("\n".join(f"stage_2_train_images/{name} 1 " for name in names[half:]))
    lists = read_split_lists([f"{split}={tmp_path / split}.txt" for split in ("val", "test")])
    listed = ListedSource(source, lists, as_published=False).entries()
    assert Counter(entry.split for entry in listed) == {"val": half, "test": len(names) - half}
