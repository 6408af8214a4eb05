"""NIH ChestX-ray14: variants of the table, boxes, lists, and every known oddity."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.packed import PackedSet
from msvl.data.phantom.miniatures.nih_chestxray14 import HEADER, ROOT
from msvl.data.sources.nih_chestxray14 import FINDINGS, NihChestXray14Source
from msvl.data.study import Entry
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "nih-chestxray14"
TABLE = "Data_Entry_2017_v2020.csv"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("nih"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "nih")
    return tmp_path / "nih"


def entries(folder: Path, *words: str) -> list[Entry]:
    return source_of(NAME, folder, *words).entries()


def test_the_header_has_commas_inside_its_names_and_ids_keep_their_zeros(original: Path) -> None:
    lines = (original / ROOT / TABLE).read_text().splitlines()
    assert len(lines[0].split(",")) == len(lines[1].split(",")) == 11
    found = entries(original)
    assert [entry.image for entry in found] == [line.split(",")[0] for line in lines[1:]]
    assert all(entry.patient == entry.image[:8] and entry.patient.startswith("0000") for entry in found)
    assert [entry.order for entry in found] == [float(line.split(",")[2]) for line in lines[1:]]


def test_labels_are_whole_words_of_the_list(original: Path) -> None:
    for line, entry in zip((original / ROOT / TABLE).read_text().splitlines()[1:], entries(original), strict=True):
        named = line.split(",")[1].split("|")
        assert entry.labels == {name: int(name in named) for name in ("No Finding", *FINDINGS)}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", ",\n"),  # the table of 2017: a comma at the end
        lambda text: text.replace("Spacing[x,y]\n", "Spacing[x,y],\n").replace("Patient Gender", "Patient Sex"),
        lambda text: "\ufeff" + text,
    ],
    ids=["crlf", "twelve fields", "sex", "byte order mark"],
)
def test_variants_of_the_table_list_the_same(folder: Path, original: Path, change: object) -> None:
    table = folder / ROOT / TABLE
    table.write_bytes(change(table.read_text()).encode())  # type: ignore[operator]
    for found, expected in zip(entries(folder), entries(original), strict=True):
        assert (found.image, found.labels, found.extra, found.split) == (
            expected.image, expected.labels, expected.extra, expected.split,
        )  # fmt: skip


def test_ages_as_text_and_impossible_ones(folder: Path) -> None:
    table = folder / ROOT / TABLE
    rows = table.read_text().splitlines()
    for place, age in ((1, "058Y"), (2, "011M"), (3, "001D"), (4, "414")):
        cells = rows[place].split(",")
        cells[4] = age
        rows[place] = ",".join(cells)
    table.write_text("\n".join(rows))
    assert [entry.extra.get("age") for entry in entries(folder)[:4]] == [58.0, 0.92, 0.0, None]


def test_the_official_split_with_val_cut_from_training_by_patient(original: Path) -> None:
    lists = {
        name: set((original / ROOT / name).read_text().split()) for name in ("train_val_list.txt", "test_list.txt")
    }
    found = entries(original, "--val-share", "0.3")
    for entry in found:
        assert (entry.split == "test") == (entry.image in lists["test_list.txt"])
        assert (entry.split in ("train", "val")) == (entry.image in lists["train_val_list.txt"])
    splits: dict[str, set[str | None]] = {}
    for entry in found:
        splits.setdefault(entry.patient, set()).add(entry.split)
    assert all(len(split) == 1 for split in splits.values())
    assert {entry.split for entry in found} == {"train", "val", "test"}
    assert {entry.split for entry in entries(original, "--val-share", "0")} == {"train", "test"}


def test_boxes_are_in_pixels_of_1024_and_infiltrate_is_infiltration(folder: Path, tmp_path: Path) -> None:
    boxes = folder / ROOT / "BBox_List_2017.csv"
    header, *rows = boxes.read_text().splitlines()
    assert len(header.split(",")) == 9 and all(len(row.split(",")) == 6 for row in rows)
    test = next(entry for entry in entries(folder) if entry.split == "test")
    boxes.write_text(f"{header}\n{test.image},Infiltrate,256.0,512.0,128.0,64.0\n")
    source = source_of(NAME, folder)
    record = source.record(next(entry for entry in source.entries() if entry.image == test.image))
    box = record.boxes[0]
    assert (box.x, box.y, box.w, box.h, box.finding, box.phrase) == (256, 512, 128, 64, "Infiltration", "infiltration")
    assert record.full_size == (1024, 1024) and record.image.shape == (64, 64)


def test_an_image_with_an_alpha_channel_is_grey(original: Path) -> None:
    source = source_of(NAME, original)
    colour = [e for e in source.entries() if _read(original, e).ndim == 3]
    assert len(colour) == 1
    assert np.array_equal(source.record(colour[0]).image, _read(original, colour[0])[:, :, 0])


def _read(folder: Path, entry: Entry) -> np.ndarray:
    image: np.ndarray = cv2.imread(str(folder / ROOT / entry.payload["path"]), cv2.IMREAD_UNCHANGED)
    return image


@pytest.mark.parametrize("places", ["images", "images_001", "."])
def test_images_in_one_folder_or_beside_the_table(folder: Path, places: str) -> None:
    root = folder / ROOT
    images = list(root.glob("images_*/images/*.png"))
    (root / "kept").mkdir()
    for image in images:
        image.rename(root / "kept" / image.name)
    for old in root.glob("images_*"):
        shutil.rmtree(old)
    (root / places).mkdir(exist_ok=True)
    for image in (root / "kept").iterdir():
        image.rename(root / places / image.name)
    source = source_of(NAME, folder)
    assert len([source.record(entry) for entry in source.entries()]) == len(images)


def test_a_missing_image_is_dropped_with_its_reason(folder: Path) -> None:
    source = source_of(NAME, folder)
    entry = source.entries()[0]
    (folder / ROOT / entry.payload["path"]).unlink()
    with pytest.raises(DataError, match=rf"{TABLE} row 2: there is no such image file"):
        source.record(source_of(NAME, folder).entries()[0])


def test_boxes_on_an_image_that_is_not_square(folder: Path) -> None:
    source = source_of(NAME, folder)
    entry = next(entry for entry in source.entries() if entry.payload["boxes"])
    cv2.imwrite(str(folder / ROOT / entry.payload["path"]), np.zeros((64, 80), np.uint8))
    with pytest.raises(DataError, match="80 x 64 px and its boxes belong to the square images"):
        source.record(entry)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (TABLE, HEADER.split(",")[1], "Labels", rf"{TABLE}: there is no column 'Finding Labels'"),
        (TABLE, "|", ";", r"row \d+: finding a text of \d+ characters; expected No Finding or Atelectasis"),
        (TABLE, "No Finding", "No Finding|Mass", r"row \d+: No Finding stands beside a finding"),
        (TABLE, "00000001_", "1_", r"row 2: Image Index is not 00000001_000\.png; a spreadsheet|is in neither"),
        (TABLE, ",2894", ",2894,7", r"row 2: it has 12 cells and the header 11"),
        (
            "BBox_List_2017.csv",
            "Infiltrate",
            "Infiltrat",
            r"BBox_List_2017\.csv row \d+: finding a text of 9 characters",
        ),
        ("BBox_List_2017.csv", "300.0,400.0", "300.0,4000.0", "the box is not inside 1024 x 1024 px"),
        ("BBox_List_2017.csv", "300.0,400.0", "x,400.0", "a coordinate is no number"),
    ],
)
def test_faults_are_named_with_file_and_row(folder: Path, file: str, old: str, new: str, message: str) -> None:
    if file.startswith("BBox"):
        table = folder / ROOT / file
        table.write_text(f"{table.read_text()}00000001_000.png,Infiltrate,10.5,20.5,300.0,400.0\n")
    if old == "|":
        replace_in(folder / ROOT / file, "No Finding", "Edema|Mass")
    replace_in(folder / ROOT / file, old, new)
    with pytest.raises(DataError, match=message):
        entries(folder)


def test_lists_and_tables_that_are_missing_or_mixed(folder: Path) -> None:
    root = folder / ROOT
    (root / "test_list.txt").rename(root / "kept.txt")
    with pytest.raises(DataError, match=r"test_list\.txt: there is no such file; the official split needs it"):
        entries(folder)
    (root / "test_list.txt").write_text((root / "train_val_list.txt").read_text())
    with pytest.raises(DataError, match="names an image that the other list has too"):
        entries(folder)
    (root / "test_list.txt").write_text("\n")
    with pytest.raises(DataError, match=r"test_list\.txt is empty"):
        entries(folder)
    (root / "test_list.txt").write_text("00009999_000.png\n")
    with pytest.raises(DataError, match=r"row \d+: its image is in neither train_val_list\.txt nor test_list\.txt"):
        entries(folder)
    shutil.copy(root / TABLE, root / "Data_Entry_2017.csv")
    with pytest.raises(DataError, match="whose labels differ: name one with --table, or remove one"):
        source_of(NAME, folder)
    source_of(NAME, folder, "--table", str(root / TABLE))
    for table in (TABLE, "Data_Entry_2017.csv"):
        (root / table).unlink()
    with pytest.raises(DataError, match=rf"has no {TABLE} or Data_Entry_2017\.csv: download it"):
        source_of(NAME, folder)
    with pytest.raises(DataError, match="there is no such folder"):
        NihChestXray14Source(folder / "none")


def test_patient_id_and_image_index_that_disagree(folder: Path) -> None:
    table = folder / ROOT / TABLE
    header, first, *rest = table.read_text().splitlines()
    cells = first.split(",")
    cells[3] = "77"
    table.write_text("\n".join([header, ",".join(cells), *rest]))
    with pytest.raises(DataError, match="row 2: Patient ID and Image Index name two patients"):
        entries(folder)


def test_packed_boxes_follow_the_stored_image(original: Path, tmp_path: Path) -> None:
    from msvl.cli import main
    from msvl.data.reader import SampleReader

    words = ["nih-chestxray14", "--images", str(original / ROOT)]
    assert main(["data", "pack", *words, "--out", str(tmp_path / "out"), "--workers", "1", "--short-side", "32"]) == 0
    reader = SampleReader(PackedSet.open(tmp_path / "out").split("test"))
    boxes = [box for row in range(len(reader.index)) for box in reader.meta(row)["boxes"]]
    assert boxes and all(0 <= box["x"] <= 32 and box["x"] + box["w"] <= 32.01 for box in boxes)
    expected = {round(b.x / 32, 2) for e in source_from(words).entries() for b in e.payload["boxes"]}
    assert {box["x"] for box in boxes} == expected
