"""VinDr-CXR: three readers, two spellings, both releases, DICOM stripped of its tags."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from msvl.config.errors import DataError
from msvl.data.images import to_eight_bit
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.phantom.miniatures.material import draw_studies
from msvl.data.phantom.miniatures.vindr_cxr import ROOT, image_id
from msvl.data.sources.vindr_cxr import FINDINGS, KAGGLE_FINDINGS, VindrCxrSource
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "vindr-cxr"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("vindr"), train=16)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "vindr")
    return tmp_path / "vindr"


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / ROOT / "annotations" / name, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("agree", [1, 2, 3])
def test_labels_count_the_readers_and_fewer_are_uncertain(original: Path, agree: int) -> None:
    table = rows(original, "image_labels_train.csv")
    states = set()
    for entry in source_of(NAME, original, "--agree", str(agree)).entries():
        if entry.split == "test":
            continue
        for finding in FINDINGS:
            said = sum(int(row[finding]) for row in table if row["image_id"] == entry.image)
            assert entry.labels[finding] == (1 if said >= agree else -1 if said else 0)
            states.add(entry.labels[finding])
    assert states == ({0, 1} if agree == 1 else {-1, 0, 1})


def test_boxes_of_agreeing_readers_are_joined_and_of_one_reader_left_out(original: Path) -> None:
    table = rows(original, "annotations_train.csv")
    found = {entry.image: entry for entry in source_of(NAME, original).entries()}
    alone = {row["image_id"] for row in table if row["class_name"] == "Aortic enlargement"}
    assert alone and all(b.finding != "Aortic enlargement" for name in alone for b in found[name].payload["boxes"])
    three = next(row for row in table if row["class_name"] == "Cardiomegaly" and row["rad_id"] == "R8")
    same = [r for r in table if r["image_id"] == three["image_id"] and r["class_name"] == "Cardiomegaly"]
    box = next(b for b in found[three["image_id"]].payload["boxes"] if b.finding == "Cardiomegaly")
    assert len(same) == 3
    assert box.x == pytest.approx(np.mean([float(row["x_min"]) for row in same]))
    assert box.x + box.w == pytest.approx(np.mean([float(row["x_max"]) for row in same]))
    assert box.phrase == "cardiomegaly"


def test_the_test_split_is_the_consensus_and_spells_other_disease_otherwise(original: Path) -> None:
    train, test = (rows(original, f"image_labels_{split}.csv") for split in ("train", "test"))
    assert "Other diseases" in train[0] and "rad_id" in train[0]
    assert "Other disease" in test[0] and "rad_id" not in test[0]
    found = {entry.image: entry for entry in source_of(NAME, original).entries() if entry.split == "test"}
    assert set(found) == {row["image_id"] for row in test}
    for row in test:
        labels = found[row["image_id"]].labels
        assert set(labels) == set(FINDINGS) and set(labels.values()) <= {0, 1}
        assert labels["Cardiomegaly"] == int(row["Cardiomegaly"])


def test_the_headers_have_no_ids_and_no_view(original: Path) -> None:
    source = source_of(NAME, original)
    entry = source.entries()[0]
    header = pydicom.dcmread(original / ROOT / entry.payload["folder"] / f"{entry.image}.dicom")
    for name in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "ViewPosition", "Modality"):
        assert name not in header
    record = source.record(entry)
    assert record.view == "PA" and record.extra["age"] > 0 and entry.patient == entry.image


def test_every_form_of_pixels_shows_the_same_chest(original: Path) -> None:
    source = source_of(NAME, original)
    studies = {image_id(study): study for study in draw_studies(train=16, val=2, test=2, size=64)}
    kinds = set()
    for entry in source.entries():
        header = pydicom.dcmread(original / ROOT / entry.payload["folder"] / f"{entry.image}.dicom")
        kinds.add(
            (header.PhotometricInterpretation, header.BitsStored, header.file_meta.TransferSyntaxUID.is_compressed)
        )
        shown = to_eight_bit(source.record(entry).image).astype(float)
        drawn = studies[entry.image].frontal.astype(float)
        assert np.corrcoef(shown.ravel(), drawn.ravel())[0, 1] > 0.999, entry.where
    assert {"MONOCHROME1", "MONOCHROME2"} == {kind[0] for kind in kinds}
    assert {12, 14} == {kind[1] for kind in kinds} and {True, False} == {kind[2] for kind in kinds}


def test_tables_beside_the_images_and_renamed_files(folder: Path, original: Path) -> None:
    root = folder / ROOT
    for split in ("train", "test"):
        for name in (f"image_labels_{split}.csv", f"annotations_{split}.csv"):
            (root / "annotations" / name).rename(root / split / name)
    for path in list((root / "train").glob("*.dicom")):
        path.rename(path.with_suffix(".dcm"))
    source, whole = source_of(NAME, folder), source_of(NAME, original)
    assert [entry.labels for entry in source.entries()] == [entry.labels for entry in whole.entries()]
    entry = source.entries()[0]
    assert np.array_equal(source.record(entry).image, whole.record(entry).image)


def kaggle(folder: Path, original: Path) -> Path:
    (folder / "train").mkdir(parents=True)
    text = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    for row in rows(original, "annotations_train.csv"):
        text += f"{row['image_id']},{row['class_name']},0,{row['rad_id']},"
        text += ",".join(row[name] for name in ("x_min", "y_min", "x_max", "y_max")) + "\n"
        shutil.copy(original / ROOT / "train" / f"{row['image_id']}.dicom", folder / "train")
    (folder / "train.csv").write_text(text)
    return folder


def test_two_lesions_that_all_readers_box_stay_two_and_an_image_of_kaggle_is_that_of_physionet(
    tmp_path: Path, original: Path
) -> None:
    folder = kaggle(tmp_path, original)
    image = rows(original, "annotations_train.csv")[0]["image_id"]
    lines = [f"{image},Nodule/Mass,8,{reader},{x},10,{x + 5},15" for reader in ("R8", "R9", "R10") for x in (10, 40)]
    table = folder / "train.csv"
    header, *others = [line for line in table.read_text().splitlines() if not line.startswith(image)]
    table.write_text("\n".join([header, *lines, *others]) + "\n")
    source = source_from([NAME, "--images", str(folder)])
    entry = next(entry for entry in source.entries() if entry.image == image)
    assert sorted(box.x for box in entry.payload["boxes"]) == [10, 40]
    assert entry.labels["Nodule/Mass"] == 1 and entry.labels["No finding"] == 0
    jobs = [
        {job.key for unit in plan(one, PackOptions()) for job in unit.jobs}
        for one in (source, source_of(NAME, original))
    ]
    assert jobs[0] < jobs[1]


def test_the_release_on_kaggle_has_one_table(tmp_path: Path, original: Path) -> None:
    source = source_from([NAME, "--images", str(kaggle(tmp_path, original))])
    expected = {entry.image: entry for entry in source_of(NAME, original).entries() if entry.split != "test"}
    found = source.entries()
    assert {entry.image for entry in found} == set(expected)
    for entry in found:
        assert entry.split == expected[entry.image].split
        assert entry.labels == {name: expected[entry.image].labels[name] for name in KAGGLE_FINDINGS}
        assert entry.payload["boxes"] == expected[entry.image].payload["boxes"]
    assert source.record(found[0]).image.shape == (64, 64)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "image_labels_train.csv",
            "Other diseases",
            "Others",
            "there is no column 'Other diseases' or 'Other disease'",
        ),
        ("image_labels_train.csv", "rad_id", "reader", "there is no column 'rad_id'"),
        ("image_labels_train.csv", "R8,0", "R8,2", r"image_labels_train\.csv row 2: label '2' in column"),
        ("image_labels_train.csv", "R8,0", "R8,", r"row 2: label '' in column .*; readers say 1 or 0"),
        ("image_labels_train.csv", ",R9,", ",R8,", r"row 3: its image and reader have a row above already"),
        (
            "annotations_train.csv",
            "Cardiomegaly",
            "Big heart",
            r"annotations_train\.csv row \d+: class a text of 9 characters",
        ),
        ("annotations_train.csv", "10.25,10.25", "x,10.25", r"row \d+: a coordinate is no number"),
        ("annotations_train.csv", "10.25,10.25", "90.5,10.25", r"row \d+: the box has no area"),
        ("annotations_train.csv", "image_id", "image", "there is no column 'image_id'"),
    ],
)
def test_faults_are_named_with_file_and_row(folder: Path, file: str, old: str, new: str, message: str) -> None:
    replace_in(folder / ROOT / "annotations" / file, old, new)
    with pytest.raises(DataError, match=message):
        source_of(NAME, folder).entries()


def test_tables_that_are_missing_or_of_another_version(folder: Path) -> None:
    tables = folder / ROOT / "annotations"
    text = (tables / "annotations_test.csv").read_text()
    (tables / "annotations_test.csv").write_text(f"{text}0123,No finding,,,,\n")
    with pytest.raises(DataError, match="its image is not in image_labels_test.csv|take both tables of one version"):
        source_of(NAME, folder).entries()
    (tables / "annotations_test.csv").unlink()
    with pytest.raises(DataError, match=r"has no annotations/annotations_test\.csv: download the tables"):
        source_of(NAME, folder).entries()
    with pytest.raises(DataError, match="--agree 4: every image has three readers; give 1 to 3"):
        source_of(NAME, folder, "--agree", "4")
    with pytest.raises(DataError, match="there is no such folder"):
        VindrCxrSource(folder / "none")
