"""What is planted in every field of a source is found nowhere but in the source, the packed set and the run folder."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.data.packed import PackedSet
from tests.helpers.runs import Finished, execute, launch, tiny_config

MSVL = [sys.executable, "-m", "msvl.cli"]
MARK = "qzmark"
"""Part of every planted value, in any case."""
PICTURES = (b"\xff\xd8\xff", b"\x89PNG")
"""How JPEG and PNG files begin."""
PATIENTS, SPLITS = 24, {"train": range(16), "val": range(16, 20), "test": range(20, 24)}
COLUMNS = ["image", "text", "patient", "study", "view", "taken_on", "accession", "name", "split", "effusion"]


@dataclass(frozen=True)
class Place:
    """Folders that a test's commands may write to, and what they said."""

    root: Path
    said: list[str]

    @property
    def packed(self) -> Path:
        return self.root / "set"

    @property
    def run(self) -> Path:
        return self.root / "runs" / "r"

    @property
    def config(self) -> Path:
        return self.root / "run.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """Home, caches and temporary files below the test's folder; the op that DeepSpeed has built is found where it is."""
        extensions = os.environ.get("TORCH_EXTENSIONS_DIR", str(Path.home() / ".cache" / "torch_extensions"))
        home = self.root / "home"
        return {
            "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"), "TMPDIR": str(self.root / "temporary"), "WANDB_MODE": "offline",
            "TORCH_EXTENSIONS_DIR": extensions,
        }  # fmt: skip

    def msvl(self, *words: str | Path, code: int = 0) -> Finished:
        """Run a command and keep what it says."""
        return self._kept(execute([*MSVL, *map(str, words)], environment=self.environment), words, code)

    def train(self, *words: str) -> Finished:
        """Train on two ranks and keep what is said."""
        return self._kept(launch(self.config, *words, environment=self.environment), words, 0)

    def pack(self, table: Path, *words: str, out: str = "other", code: int = 0) -> Finished:
        return self.msvl(
            "data", "pack", "table", "--images", self.root / "source", "--reports", table, "--report-column", "text",
            "--patient-column", "patient", "--study-column", "study", "--view-column", "view", "--out", self.root / out,
            "--workers", "2", *words, code=code,
        )  # fmt: skip

    def _kept(self, finished: Finished, words: Iterable[object], code: int) -> Finished:
        assert finished.code == code, (words, finished.output[-3000:])
        self.said.append(finished.output)
        return finished


def report(number: int) -> str:
    lines = f"FINDINGS: The heart of Qzmark Reportname{number} is enlarged. No effusion is seen on qzmark-2031-0{number % 9 + 1}-07."
    return f"{lines}\nIMPRESSION: Cardiomegaly, see QZMARK{number}."


def row(number: int) -> dict[str, str]:
    split = next(name for name, numbers in SPLITS.items() if number in numbers)
    return {
        "image": f"QZMARK-image-{number}.png", "text": report(number), "patient": f"QZMARK-patient-{number}",
        "study": f"QZMARK-study-{number}", "view": "QZMARK-VIEW", "taken_on": f"2031-QZMARK-{number}",
        "accession": f"QZMARK-ACC-{number}", "name": f"QZMARK^NAME{number}", "split": split, "effusion": str(number % 2),
    }  # fmt: skip


def write_table(path: Path, rows: list[dict[str, str]], *, header: bool = True) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if header:
            writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A source with planted marks, packed, trained on for four steps by two ranks, judged and reported."""
    place = Place(tmp_path_factory.mktemp("private"), [])
    for name in ("source", "home", "temporary"):
        (place.root / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(PATIENTS):
        image = cv2.resize(rng.integers(0, 255, (9, 9), dtype=np.uint8), (80, 80))
        assert cv2.imwrite(str(place.root / "source" / row(number)["image"]), image)
    table = write_table(place.root / "source" / "reports.csv", [row(number) for number in range(PATIENTS)])
    place.pack(
        table, "--split-column", "split", "--label-columns", "effusion", "--train-tokenizer", "300", "--short-side", "64",
        "--key-table", str(place.root / "source" / "keys.csv"), out="set",
    )  # fmt: skip
    tiny_config(
        place.config, data=place.packed, runs=place.root / "runs", name="r", wandb={"enabled": True},
        train={"steps": 4, "save_every": 2}, validation={"every": 2, "samples": 4},
    )  # fmt: skip
    place.train()
    place.msvl("evaluate", place.run, "--resamples", "20", "--untrained")
    place.msvl("report", place.run)
    return place


def marks(place: Place, *, within: Iterable[Path] | None = None) -> list[str]:
    """Return files that hold a mark or a picture: of those given, else of all but source, packed sets and run folders."""
    own = [place.root / name for name in ("source", "set", "runs")]
    own += [folder for folder in place.root.iterdir() if (folder / "manifest.json").is_file()]
    files = within or (path for path in place.root.rglob("*") if not any(path.is_relative_to(folder) for folder in own))
    found = []
    for path in files:
        if MARK in path.name.lower():
            found.append(f"{path} (its name)")
        if path.is_file():
            data = path.read_bytes()
            if MARK.encode() in data.lower() or any(sign in data for sign in PICTURES):
                found.append(str(path))
    return found


def said_marks(place: Place) -> list[str]:
    return [line for text in place.said for line in text.splitlines() if MARK in line.lower()]


def of_run(place: Place) -> list[Path]:
    """Files of the run folder that are logs or leave it: W&B's, figures, metrics, settings; not reports and examples."""
    kept = {"report.html"}
    return [
        path
        for path in place.run.rglob("*")
        if path.is_file()
        and path.name not in kept
        and not any(part.endswith("-examples") or part == "checkpoints" for part in path.parts)
    ]


@pytest.mark.ranks
@pytest.mark.evidence(
    "Report text, ids, names and dates of a source reach neither output, caches, logs nor W&B", how="gloo"
)
def test_nothing_private_leaves_the_run_folder(place: Place) -> None:
    assert MARK in (place.run / "report.html").read_text(encoding="utf-8").lower(), "the page shows reports"
    files = of_run(place)
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.name.startswith("rank-") for path in files)
    assert marks(place, within=files) == []
    assert marks(place) == []
    assert said_marks(place) == []


def test_run_folders_and_what_is_made_in_them_are_for_their_owner(place: Place) -> None:
    for folder in (place.run, place.run / "evaluation", *place.run.glob("evaluation/*-examples")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE((place.run / "report.html").stat().st_mode) == 0o600
    assert stat.S_IMODE((place.root / "source" / "keys.csv").stat().st_mode) == 0o600


FAULTS = {
    "a report without text": ({5: {"text": ""}}, [], 0),
    "an image that is missing": ({5: {"image": "QZMARK-nowhere.png"}}, [], 0),
    "a label column of texts": ({}, ["--label-columns", "text"], 2),
    "a label column of numbers": ({}, ["--label-columns", "accession"], 2),
    "a split column of dates": ({}, ["--split-column", "taken_on"], 2),
    "a patient in two splits": ({1: {"patient": row(20)["patient"]}}, ["--split-column", "split"], 2),
    "a column that is not there": ({}, ["--label-columns", "pleural"], 2),
    "a category of free text": ({n: {"name": f"QZMARK^{n}"} for n in range(40)}, ["--category-column", "name"], 2),
    "most records without text": ({n: {"text": ""} for n in range(20)}, [], 2),
    "no sentence that is long enough": ({5: {"text": "Qzmark."}}, [], 0),
}  # fmt: skip
"""What is changed in which rows, options, exit code."""


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_table_show_nothing_private(place: Place, tmp_path: Path, name: str) -> None:
    changes, words, code = FAULTS[name]
    rows = [row(number % PATIENTS) | changes.get(number, {}) for number in range(max([PATIENTS, *changes]) + 1)]
    place.pack(
        write_table(tmp_path / "reports.csv", rows), *words, "--estimate" if code == 0 else "--quality=90", code=code
    )
    if code == 0:
        out = f"packed-{abs(hash(name))}"
        place.pack(tmp_path / "reports.csv", *words, out=out)
        dropped = (place.root / out / "dropped.csv").read_text(encoding="utf-8")
        assert "reports.csv row" in dropped and MARK not in dropped.lower()
    assert said_marks(place) == []
    assert marks(place) == []


def test_a_table_without_a_header_or_in_latin_1(place: Place, tmp_path: Path) -> None:
    rows = [row(number) for number in range(PATIENTS)]
    place.pack(write_table(tmp_path / "reports.csv", rows, header=False), code=2)
    data = (place.root / "source" / "reports.csv").read_bytes().replace(b"Qzmark", b"Qzm\xe4rk-qzmark")
    (tmp_path / "latin.csv").write_bytes(data)
    place.pack(tmp_path / "latin.csv", code=2)
    (tmp_path / "short.csv").write_bytes(data[: data.index(b"IMPRESSION")].replace(b"\xe4", b"a") + b'"\n')
    place.pack(tmp_path / "short.csv", code=2)
    assert said_marks(place) == []


def test_a_typo_in_the_configuration_and_damaged_shards(place: Place, tmp_path: Path) -> None:
    place.msvl("train", place.config, "train.stepz=3", code=2)
    copy = tmp_path / "copy"
    shutil.copytree(place.packed, copy)
    index = PackedSet.open(copy).split("train")
    shard = index.shard_path(0)
    with open(shard, "r+b") as stream:  # one report that is no JSON
        stream.seek(int(index.records["offset"][3, 1]))
        stream.write(b"{qz")
    # Stored token ids would leave the damaged text unread.
    options = [f"data.path={copy}", f"run.folder={tmp_path / 'runs'}", "train.steps=2", "data.token_ids=online"]
    place.msvl("train", place.config, *options)
    place.msvl("data", "verify", copy, code=1)
    assert "cannot be used" in (tmp_path / "runs" / "r" / "log" / "rank-00000.txt").read_text()
    os.truncate(shard, shard.stat().st_size // 2)
    place.msvl("train", place.config, *options, "data.max_bad_share=0.7", "run.name=cut")
    place.msvl("train", place.config, *options, "run.name=stopped", code=2)
    place.msvl("data", "verify", copy, code=1)
    assert marks(place, within=[*(tmp_path / "runs").rglob("log/*"), *(tmp_path / "runs").rglob("wandb/**/*")]) == []
    assert said_marks(place) == []
    assert marks(place) == []


def test_looking_into_a_set(place: Place, tmp_path: Path) -> None:
    place.msvl("data", "inspect", place.packed, "--out", tmp_path)
    assert stat.S_IMODE((tmp_path / "contact-sheet.png").stat().st_mode) == 0o600
    place.msvl("data", "verify", place.packed)
    place.msvl("data", "leaks", place.packed)
    place.msvl("data", "leaks", place.packed, place.packed, "--out", tmp_path / "leaks.csv", code=1)
    place.msvl("data", "ledger", place.run, "--step", "1")
    (tmp_path / "list.csv").write_text("image,split\nQZMARK-1.png,QZMARK-split\n")
    place.msvl("data", "leaks", tmp_path / "list.csv", code=2)
    place.msvl("evaluate", place.run, "--split", "QZ", code=2)
    assert marks(place, within=[tmp_path / "leaks.csv"]) == []
    assert said_marks(place) == []


def test_a_model_without_a_run_keeps_no_reports(place: Place, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(place.run / "checkpoints" / "step-00000004" / "model", model)
    done = place.msvl("evaluate", model, "--data", place.packed, "--resamples", "20")
    assert "no examples" in done.output
    assert marks(place, within=[*model.rglob("evaluation/**/*")]) == []
    assert list(model.glob("evaluation/*.json"))
    assert said_marks(place) == []


def test_tars_in_place_whose_keys_are_ids(place: Place, tmp_path: Path) -> None:
    def write(path: Path, *, twice: bool = False) -> Path:
        with tarfile.open(path, "w") as tar:
            for number in [*range(PATIENTS), *([3] if twice else [])]:
                image = cv2.imencode(".png", cv2.imread(str(place.root / "source" / row(number)["image"]), 0))[
                    1
                ].tobytes()
                for ending, data in (("png", image), ("json", json.dumps(row(number)).encode())):
                    member = tarfile.TarInfo(f"QZMARK-key-{number:03d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return path

    index_words = ["--caption", "json:text", "--patient-field", "patient", "--val-share", "0.2", "--test-share", "0.2"]
    place.msvl(
        "data", "index", write(tmp_path / "twice.tar", twice=True), "--out", tmp_path / "twice", *index_words, code=2
    )
    tar = write(tmp_path / "one.tar")
    place.msvl("data", "index", tar, "--out", tmp_path / "set", *index_words, "--train-tokenizer", "300")
    records = PackedSet.open(tmp_path / "set").split("train").records
    with open(tar, "r+b") as stream:
        stream.seek(int(records["offset"][3, 0]))
        stream.write(bytes(30))
    options = [
        f"data.path={tmp_path / 'set'}",
        f"run.folder={tmp_path / 'runs'}",
        "train.steps=3",
    ]
    place.msvl("train", place.config, *options, "data.max_bad_share=0.2")
    place.msvl("train", place.config, *options, "data.max_bad_share=0", "run.name=stopped")
    log = (tmp_path / "runs" / "r" / "log" / "rank-00000.txt").read_text()
    assert "sample number 3 of" in log
    os.truncate(tar, tar.stat().st_size // 2 + 700)
    place.msvl("data", "index", tar, "--out", tmp_path / "cut", *index_words)
    assert marks(place, within=[*(tmp_path / "runs").rglob("log/*"), *(tmp_path / "runs").rglob("wandb/**/*")]) == []
    assert said_marks(place) == []
    assert marks(place) == []
