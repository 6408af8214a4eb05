"""Bad sources: one message each that names file, place and cure, and nothing half-written."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from msvl.cli import main
from msvl.data.phantom.miniatures import MINIATURES
from tests.helpers.miniatures import replace_in, source_of, write_miniature

MIMIC, SMALL, PLUS, REX = (
    "mimic-cxr-jpg/2.1.0",
    "CheXpert-v1.0-small",
    "chexpertplus",
    "ReXGradient-160K/download/metadata",
)
META, SPLIT = f"{MIMIC}/mimic-cxr-2.0.0-metadata.csv.gz", f"{MIMIC}/mimic-cxr-2.0.0-split.csv.gz"
LABELS = f"{MIMIC}/mimic-cxr-2.0.0-chexpert.csv.gz"
MSCXR = "ms-cxr/1.1.0/MS_CXR_Local_Alignment_v1.1.0"
TABLE = f"{PLUS}/df_chexpert_plus_240401.csv"
NIH, RSNA, SIIM, VIN = (
    "ChestXray-NIHCC",
    "rsna-pneumonia-detection-challenge",
    "siim-acr",
    "vindr-cxr/1.0.0/annotations",
)
IU, PAD = "NLMCXR_reports.tgz", "PadChest/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
JSONS = f"{PLUS}/chexbert_labels/report_fixed.json"


@dataclass(frozen=True)
class Bad:
    """A fault put into a miniature, and what is said of it."""

    source: str
    what: str
    change: Callable[[Path], object]
    message: str
    words: tuple[str, ...] = ()


def remove(path: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        place = folder / path
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return change


def change_text(path: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: replace_in(folder / path, old, new)


def write(path: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(data)


def lines(path: str, edit: Callable[[list[str]], list[str]], *, encoding: str = "utf-8") -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        place = folder / path
        packed = place.suffix == ".gz"
        text = (gzip.decompress(place.read_bytes()) if packed else place.read_bytes()).decode()
        data = ("\n".join(edit(text.splitlines())) + "\n").encode(encoding)
        place.write_bytes(gzip.compress(data) if packed else data)

    return change


def with_json(path: str, edit: Callable[[dict], object]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / path).read_text())
        edit(content)
        (folder / path).write_text(json.dumps(content))

    return change


def cells(row: int, place: int, value: str) -> Callable[[list[str]], list[str]]:
    """Put a value into a cell of a table without quotes; rows count from 1, the header."""

    def edit(text: list[str]) -> list[str]:
        parts = text[row - 1].split(",")
        parts[place] = value
        return [*text[: row - 1], ",".join(parts), *text[row:]]

    return edit


def first_study(content: dict) -> dict:
    return next(iter(content.values()))


def two_copies(folder: Path) -> None:
    shutil.copytree(folder / SMALL / "train", folder / SMALL / "again" / "train")


def two_tables(folder: Path) -> None:
    (folder / SMALL / "other").mkdir()
    shutil.copy(folder / SMALL / "train.csv", folder / SMALL / "other")


def login_page(folder: Path) -> None:
    (folder / LABELS).unlink()
    (folder / LABELS).with_suffix("").write_text("<!DOCTYPE html><title>Log in</title>")


def latin_reports(folder: Path) -> None:
    for path in (folder / "mimic-cxr/2.1.0/mimic-cxr-reports").rglob("s5*.txt"):
        path.write_bytes(path.read_bytes().replace(b"a", b"\xe4"))


def nothing(folder: Path) -> None:
    del folder


CASES = [
    # Files that are not there, or are others.
    Bad("mimic-cxr-jpg", "no table of splits", remove(SPLIT), r"2\.1\.0 has no mimic-cxr-2\.0\.0-split\.csv\.gz: download it"),
    Bad("mimic-cxr-jpg", "no images", remove(f"{MIMIC}/files"), r"2\.1\.0 has no folder files/: name the folder of the version"),
    Bad("mimic-cxr-jpg", "no reports", remove("mimic-cxr/2.1.0/mimic-cxr-reports/files"),
        r"mimic-cxr-reports has no reports such as p10/.*: unpack mimic-cxr-reports\.zip there"),
    Bad("mimic-cxr-jpg", "the zip of reports", nothing, r"mimic-cxr-reports\.zip is a file: unpack it",
        ("--reports", "mimic-cxr/2.1.0/mimic-cxr-reports.zip")),
    Bad("mimic-cxr-jpg", "no folder", nothing, r"--images .*nowhere: there is no such folder", ("--images", "nowhere")),
    Bad("mimic-cxr-jpg", "a login page", login_page, r"chexpert\.csv is a web page, perhaps that of a login: download the file again"),
    Bad("mimic-cxr-jpg", "a git LFS pointer", write(META, gzip.compress(b"version https://git-lfs.github.com/spec/v1\n")),
        r"metadata\.csv\.gz is a pointer of git LFS"),
    Bad("mimic-cxr-jpg", "a cut table", lambda folder: (folder / META).write_bytes((folder / META).read_bytes()[:300]),
        r"metadata\.csv\.gz is cut short .*: download it again"),
    Bad("mimic-cxr-jpg", "a table that is not compressed", lambda f: (f / META).write_bytes(gzip.decompress((f / META).read_bytes())),
        r"metadata\.csv\.gz is not compressed: take \.gz from its name"),
    Bad("mimic-cxr-jpg", "an empty table", write(LABELS, gzip.compress(b"")), r"chexpert\.csv\.gz is empty: download it again"),
    Bad("mimic-cxr-jpg", "a table without rows", lines(META, lambda text: text[:1]), r"metadata\.csv\.gz has a header and no rows"),
    # Headers and cells.
    Bad("mimic-cxr-jpg", "two columns missing", change_text(META, "dicom_id,subject_id", "dicom,subject"),
        r"metadata\.csv\.gz: there is no column 'dicom_id', 'subject_id': columns are dicom, subject, study_id"),
    Bad("mimic-cxr-jpg", "a table without header", lines(META, lambda text: text[1:]),
        r"metadata\.csv\.gz: there is no column .*: its first row looks like data and not like a header; download"),
    Bad("mimic-cxr-jpg", "labels of another version", change_text(LABELS, "Lung Opacity", "Airspace Opacity"),
        r"chexpert\.csv\.gz: there is no column 'Lung Opacity'"),
    Bad("mimic-cxr-jpg", "semicolons", lines(SPLIT, lambda text: [line.replace(",", ";") for line in text]),
        r"split\.csv\.gz: .*separated by semicolons; save it with commas"),
    Bad("mimic-cxr-jpg", "a float id", lines(META, cells(3, 2, "50414267.0")), r"metadata\.csv\.gz row 3: study_id is no id of MIMIC"),
    Bad("mimic-cxr-jpg", "a date of a spreadsheet", lines(META, cells(4, 8, "1/2/2180")), r"metadata\.csv\.gz row 4: StudyDate"),
    Bad("mimic-cxr-jpg", "an unknown split", change_text(SPLIT, ",validate", ",dev"),
        r"split\.csv\.gz row \d+: split 'dev'; expected train, validate, test"),
    Bad("mimic-cxr-jpg", "tables of two versions", lines(SPLIT, lambda text: [text[0], *text[5:]]),
        r"metadata\.csv\.gz row 2: its image is not in the split table; take both tables from the same version"),
    Bad("mimic-cxr-jpg", "a study labelled twice", lines(LABELS, lambda text: [*text, text[1]]),
        r"chexpert\.csv\.gz row \d+: its study has a row above already"),
    Bad("mimic-cxr-jpg", "a label of 2", lines(LABELS, cells(2, 3, "2.0")), r"chexpert\.csv\.gz row 2: label '2\.0' in column '\w"),
    Bad("mimic-cxr-jpg", "a row cut short", lines(META, lambda text: [*text[:-1], text[-1][:60]]),
        r"metadata\.csv\.gz row \d+: it has \d cells and the header 12"),
    Bad("mimic-cxr-jpg", "a patient in two splits", lines(SPLIT, lambda text: [*text[:1], text[1].replace("train", "test"), *text[2:]]),
        r"metadata\.csv\.gz row \d+: its patient is in both test and train"),
    Bad("mimic-cxr-jpg", "reports and sections", nothing, "--reports and --sections: give one of them",
        ("--sections", "sectioned.csv")),
    Bad("mimic-cxr-jpg", "a view that there is none of", nothing, "--views 'pa': give frontal, lateral, other, unknown",
        ("--views", "pa")),
    Bad("mimic-cxr-jpg", "more lost images than may be", remove(f"{MIMIC}/files/p10"), r"records cannot be used .*there is no such image file"),
    # CheXpert.
    Bad("chexpert", "no images", lambda f: [shutil.rmtree(f / SMALL / name) for name in ("train", "valid", "test")],
        r"CheXpert-v1\.0-small has no folders such as train/patient00001 below: unpack the images there"),
    Bad("chexpert", "no table", remove(f"{SMALL}/valid.csv"), r"CheXpert-v1\.0-small has no valid\.csv, here or one folder below"),
    Bad("chexpert", "two copies of the images", two_copies, r"has two copies of a patient's folder, in .*: name the folder of one copy"),
    Bad("chexpert", "two tables", two_tables, r"has two of train\.csv: .*; name the folder of one version"),
    Bad("chexpert", "two tables joined", lines(f"{SMALL}/train.csv", lambda text: [*text, *text]),
        r"train\.csv row \d+: the header is there again; two tables were joined"),
    Bad("chexpert", "another Path", change_text(f"{SMALL}/train.csv", "/train/patient", "/train/p"),
        r"train\.csv row 2: Path is not \.\.\./train/patient00001/study1/view1_frontal\.jpg"),
    Bad("chexpert", "views that differ from file names", change_text(f"{SMALL}/train.csv", ",Frontal,", ",Lateral,"),
        r"train\.csv row \d+: Frontal/Lateral is a text of 7 characters and the file is called view\d_frontal\.jpg"),
    Bad("chexpert", "latin-1", lines(f"{SMALL}/valid.csv", lambda text: [text[0], text[1].replace("ale,", "alé,"), *text[2:]], encoding="latin1"),
        r"valid\.csv, line 2: this is not UTF-8; convert it first: iconv"),
    Bad("chexpert", "test labels without images", remove(f"{SMALL}/test"), r"test_labels\.csv row 2: there is no image of its study"),
    Bad("chexpert", "a tokenizer without reports", nothing, "--train-tokenizer: the source chexpert has no reports", ("--train-tokenizer", "300")),
    # CheXpert Plus.
    Bad("chexpert-plus", "no labels", remove(f"{PLUS}/chexbert_labels"), r"chexpertplus has no chexbert_labels/report_fixed\.json: put it there, or give --labels none"),
    Bad("chexpert-plus", "no PNGs", remove(f"{PLUS}/PNG"), r"chexpertplus has no PNG, the folder of unpacked images"),
    Bad("chexpert-plus", "labels that are one JSON list", write(JSONS, b"[{}]\n"), r"report_fixed\.json line 1: expected one JSON object"),
    Bad("chexpert-plus", "labels of other images", change_text(JSONS, "/study", "/study9"),
        r"report_fixed\.json has a row for none of the listed images: take table and images from the same version"),
    Bad("mimic-cxr-jpg", "labels of other studies", lines(LABELS, lambda text: [text[0], "10000032,59999999" + "," * 14]),
        r"chexpert\.csv\.gz has a row for none of the listed images"),
    Bad("chexpert-plus", "a label of 3", lines(JSONS, lambda text: [text[0].replace("1.0", "3.0").replace("0.0", "3.0"), *text[1:]]),
        r"report_fixed\.json line 1: label '3.0' of .*; expected 1, 0, -1 or null"),
    Bad("chexpert-plus", "a row without patient", change_text(TABLE, ",patient00001,", ",,"), r"240401\.csv row \d+: deid_patient_id is empty"),
    Bad("chexpert-plus", "an open quote", change_text(TABLE, '"NARRATIVE', 'x"NARRATIVE'), r"df_chexpert_plus_240401\.csv"),
    Bad("chexpert-plus", "an order that is no number", change_text(TABLE, ",patient00001,2,", ",patient00001,two,"),
        r"row \d+: patient_report_date_order is 'two'; expected a number"),
    # ReXGradient.
    Bad("rexgradient", "images that are still packed", remove("ReXGradient-160K/deid_png"), r"has no folder deid_png/: unpack the images there \(cat"),
    Bad("rexgradient", "one file of metadata missing", remove(f"{REX}/valid_metadata_view_position.json"),
        r"metadata has no valid_metadata_view_position\.json: download the metadata whole"),
    Bad("rexgradient", "no metadata", remove(REX), r"has no train_metadata_view_position\.json in download/metadata or metadata"),
    Bad("rexgradient", "cut JSON", lambda f: (f / REX / "test_metadata_view_position.json").write_text('{"a": {"ImagePath": ['),
        r"test_metadata_view_position\.json is no whole JSON .*: download it again"),
    Bad("rexgradient", "the file without paths", with_json(f"{REX}/train_metadata_view_position.json", lambda c: first_study(c).pop("ImagePath")),
        r"train_metadata_view_position\.json entry 1: it has no ImagePath; is it the file of the release"),
    Bad("rexgradient", "a list in the place of an object", write(f"{REX}/train_metadata_view_position.json", b"[]"),
        r"expected an object with a study per key"),
    Bad("rexgradient", "a path that leads out", with_json(f"{REX}/train_metadata_view_position.json",
        lambda c: first_study(c).update(ImagePath=["../deid_png/../../x.png"])), r"entry 1: an ImagePath does not begin with \.\./deid_png/"),
    # MS-CXR.
    Bad("ms-cxr", "no annotations", lambda f: [path.unlink() for path in (f / "ms-cxr/1.1.0").iterdir()],
        r"1\.1\.0 has no MS_CXR_Local_Alignment_v\*\.csv or \.json"),
    Bad("ms-cxr", "both versions", lambda f: shutil.copy(f / "ms-cxr/0.1/MS_CXR_Local_Alignment_v1.0.0.csv", f / "ms-cxr/1.1.0"),
        r"1\.1\.0 has MS_CXR_Local_Alignment_v1\.0\.0\.csv and .*v1\.1\.0\.csv: name one of them"),
    Bad("ms-cxr", "a box outside", lines(f"{MSCXR}.csv", cells(2, 6, "900")), r"v1\.1\.0\.csv row 2: the box .* is not inside 64 x 64 px"),
    Bad("ms-cxr", "a coordinate that is no number", lines(f"{MSCXR}.csv", cells(2, 4, "left")), r"row 2: a coordinate is no number"),
    Bad("ms-cxr", "another category", lines(f"{MSCXR}.csv", cells(3, 1, "Nodule")), r"row 3: category a text of 6 characters; expected Atelectasis"),
    Bad("ms-cxr", "an empty phrase", lines(f"{MSCXR}.csv", cells(2, 2, "")), r"row 2: its phrase is empty"),
    Bad("ms-cxr", "another path", lines(f"{MSCXR}.csv", cells(2, 3, "p10/x.jpg")), r"row 2: its path is not files/p10/"),
    Bad("ms-cxr", "JSON of another kind", write(f"{MSCXR}.json", b'{"images": []}'),
        r"v1\.1\.0\.json is no annotation file of MS-CXR", ("--annotations", f"{MSCXR}.json")),
    # The others.
    Bad("mimic-cxr", "reports of another encoding", latin_reports, r"records cannot be used .*its report is not UTF-8: convert it"),
    Bad("rsna-pneumonia", "boxes of another stage", lines(f"{RSNA}/stage_2_train_labels.csv", lambda text: text[:-2]),
        r"2 patientId stand in only one of stage_2_train_labels\.csv and .*: download both again"),
    Bad("rsna-pneumonia", "a target of 2", lines(f"{RSNA}/stage_2_train_labels.csv", cells(2, 5, "2")),
        r"labels\.csv row 2: Target is '2'; expected 0 or 1"),
    Bad("siim-acr", "tables of both releases", lambda f: shutil.copy(f / SIIM / "train-rle.csv", f / SIIM / "stage_2_train.csv"),
        r"siim-acr has train-rle\.csv and stage_2_train\.csv: name one with --table"),
    Bad("siim-acr", "no pixels of a mask", lines(f"{SIIM}/train-rle.csv", cells(2, 1, "")),
        r"train-rle\.csv row 2: EncodedPixels is empty; expected -1"),
    Bad("nih-chestxray14", "no list of the test split", remove(f"{NIH}/test_list.txt"),
        r"test_list\.txt: there is no such file; the official split needs it: download it beside the table"),
    Bad("nih-chestxray14", "a finding of another set", change_text(f"{NIH}/Data_Entry_2017_v2020.csv", "Cardiomegaly", "Big heart"),
        r"v2020\.csv row \d+: finding a text of 9 characters; expected No Finding or Atelectasis"),
    Bad("nih-chestxray14", "an image on no list", lines(f"{NIH}/Data_Entry_2017_v2020.csv", cells(3, 0, "00099999_000.png")),
        r"v2020\.csv row 3: its image is in neither train_val_list\.txt nor test_list\.txt: take all from one version"),
    Bad("iu-xray", "reports that are a part of their archive", lambda f: (f / IU).write_bytes((f / IU).read_bytes()[:700]),
        r"NLMCXR_reports\.tgz is no whole tar archive: download NLMCXR_reports\.tgz again"),
    Bad("padchest", "no table", remove(f"{PAD}.gz"), r"PadChest has no PADCHEST_chest_x_ray_images_labels_160K_01\.02\.19\.csv or"),
    Bad("padchest", "labels that are no list", lambda f: replace_in(f / f"{PAD}.gz", "['", "'"),
        r"01\.02\.19\.csv\.gz row 2: Labels is no list such as \['pneumonia', 'nodule'\]: download the table again"),
    Bad("vindr-cxr", "boxes of another version", lines(f"{VIN}/annotations_test.csv", lambda text: [*text, "0123,No finding,,,,"]),
        r"annotations_test\.csv row \d+: its image is not in image_labels_test\.csv: take both tables of one version"),
    Bad("vindr-cxr", "one reader twice", lines(f"{VIN}/image_labels_train.csv", lambda text: [*text, text[1]]),
        r"image_labels_train\.csv row \d+: its image and reader have a row above already: download the table again"),
    Bad("vindr-cxr", "four readers of three", nothing, "--agree 4: every image has three readers; give 1 to 3", ("--agree", "4")),
]  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("originals")

    def original(name: str) -> Path:
        return folder / name if (folder / name).is_dir() else write_miniature(name, folder / name, train=6)

    return original


def test_there_are_forty_kinds() -> None:
    assert len({case.what for case in CASES}) >= 40
    assert {case.source for case in CASES} == set(MINIATURES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.source}: {case.what}")
@pytest.mark.evidence(
    "40 kinds of bad source: one message each that names file, place and cure; nothing half-written", how="cpu"
)
def test_one_message_and_nothing_half_written(
    case: Bad, originals: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "source"
    shutil.copytree(originals(case.source), folder)
    ids = source_ids(case.source, folder)
    capsys.readouterr()
    case.change(folder)
    words = importlib.import_module(MINIATURES[case.source]).pack_words(folder)
    line = [
        "data",
        "pack",
        *words,
        *(_in_folder(folder, word) for word in case.words),
        "--out",
        str(tmp_path / "out" / "set"),
        "--workers",
        "1",
        "--max-dropped",
        "0.1",
    ]
    assert main([*line, "--short-side", "48"]) == 2
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("msvl: ")]
    assert len(said) == 1
    assert re.search(case.message, said[0]), said[0]
    assert PLACE.search(said[0]) and CURE.search(said[0]), f"neither a place nor a cure: {said[0]}"
    assert not ids_said(said[0].replace(str(folder), ""), ids)
    assert not list((tmp_path / "out").rglob("*"))


def _in_folder(folder: Path, word: str) -> str:
    return str(folder / word) if "/" in word or word in ("nowhere", "sectioned.csv") else word


PLACE = re.compile(r"--\w+|\.(csv|json|tgz|txt)|\bfolder\b|has no ")
"""What a message names: an option, or a file."""
CURE = re.compile(
    r"\b(choose|convert|download|expected|fetch|give|is it the|is the folder|leave|mend|name|put|save|take|unpack|use)\b|lack quotes|there is no such folder"
)
"""What to do, or what should stand there."""
PLAIN = re.compile(r"(view\d+_(frontal|lateral)|study\d+|\d{1,3}|row-.*)")
"""What names of images and studies may be that no one is told by."""


def source_ids(source: str, folder: Path) -> set[str]:
    """Return the ids of patients, studies and images of a miniature, whole, and as parts of the paths of files."""
    found: set[str] = set()
    for entry in source_of(source, folder).entries():
        path = entry.payload.get("path", "") if isinstance(entry.payload, dict) else entry.payload
        words = (entry.patient, entry.study, entry.image, str(path))
        found |= {re.sub(r"\.(png|jpg|dcm|dicom|gz)$", "", part) for word in words for part in word.split("/")}
    return {name for name in found if len(name) > 3 and not PLAIN.fullmatch(name)} - FOLDERS - EXAMPLES


EXAMPLES = {"p10000032", "s50414267", "patient00001", "p10"}
"""Ids that messages name to show how names look, and the miniatures begin with."""
FOLDERS = {"train", "valid", "test", "files", "images", "deid_png", "studies", "series", "instances", "dicom-images-train",
           "stage_2_train_images", "PNG", "DICOM"}  # fmt: skip


def ids_said(text: str, ids: set[str]) -> list[str]:
    return sorted(name for name in ids if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", text))


@pytest.mark.parametrize("source", MINIATURES)
@pytest.mark.evidence("No source id of any data set is said by packing when its images are lost or damaged", how="cpu")
def test_ids_are_not_said_when_images_are_lost_or_damaged(
    source: str, originals: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    shutil.copytree(originals(source), tmp_path / "source")
    ids = source_ids(source, tmp_path / "source")
    assert len(ids) > 5, ids
    for number, path in enumerate(sorted((tmp_path / "source").rglob("*"))):
        if re.search(r"\.(png|jpg|dcm|dicom|dcm\.gz)$", path.name) and number % 5:
            data = path.read_bytes()
            if number % 5 == 1:
                path.unlink()
            else:
                path.write_bytes((data[: len(data) // 2], b"", b"<html>no</html>")[number % 3])
    monkeypatch.chdir(tmp_path)  # relative paths, as the pages have them
    words = importlib.import_module(MINIATURES[source]).pack_words(Path("source"))
    caplog.set_level("DEBUG")
    for share in ("0", "1"):
        main(
            [
                "data",
                "pack",
                *words,
                "--out",
                f"out-{share}",
                "--workers",
                "1",
                "--max-dropped",
                share,
                "--short-side",
                "48",
            ]
        )
    said = capfd.readouterr()
    texts = {"said": said.out + said.err, "logged": caplog.text}
    texts |= {str(path): path.read_text() for path in (tmp_path / "out-1").glob("*.csv")}
    texts |= {str(path): path.read_text() for path in (tmp_path / "out-1").glob("*.json")}
    assert "cannot be used" in texts["said"]
    assert {name: found for name, text in texts.items() if (found := ids_said(text, ids))} == {}
