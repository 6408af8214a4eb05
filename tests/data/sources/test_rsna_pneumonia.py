"""RSNA Pneumonia: boxes, repeated rows, and patients that only NIH knows."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.phantom.miniatures.rsna_pneumonia import MAPPING, ROOT
from msvl.data.sources.rsna_pneumonia import CLASSES, IMAGES, LABELS, TEST_IMAGES
from tests.helpers.miniatures import replace_in, source_from, source_of, write_miniature

NAME = "rsna-pneumonia"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("rsna"), train=12)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "rsna")
    return tmp_path / "rsna"


def bare(folder: Path, *words: str):  # type: ignore[no-untyped-def]
    return source_from([NAME, "--images", str(folder / ROOT), *words])


def test_one_entry_per_image_though_both_tables_have_a_row_per_box(original: Path) -> None:
    labels = [line.split(",") for line in (original / ROOT / LABELS).read_text().splitlines()[1:]]
    classes = (original / ROOT / CLASSES).read_text().splitlines()[1:]
    images = {row[0] for row in labels}
    assert len(labels) == len(classes) > len(images), "an image has two boxes, so its rows are repeated in both tables"
    found = {entry.payload["path"]: entry for entry in source_of(NAME, original).entries()}
    assert len(found) == len(images)
    for image in images:
        boxes = [[float(cell) for cell in row[1:5]] for row in labels if row[0] == image and row[5] == "1"]
        entry = found[f"{IMAGES}/{image}.dcm"]
        assert [[box.x, box.y, box.w, box.h] for box in entry.payload["boxes"]] == boxes
        assert entry.labels["Pneumonia"] == int(bool(boxes))


def test_normal_and_not_normal_are_both_without_pneumonia(original: Path) -> None:
    kinds = dict(line.split(",") for line in (original / ROOT / CLASSES).read_text().splitlines()[1:])
    for entry in source_of(NAME, original).entries():
        kind = kinds[Path(entry.payload["path"]).stem]
        assert entry.labels == {"Pneumonia": int(kind == "Lung Opacity"), "Normal": int(kind == "Normal")}
    assert len(set(kinds.values())) == 3


def test_patients_studies_and_images_have_the_hashes_that_they_have_in_nih(original: Path, tmp_path: Path) -> None:
    nih = source_of("nih-chestxray14", write_miniature("nih-chestxray14", tmp_path / "nih", train=12))
    options = PackOptions(id_key="k")
    jobs = [
        {(job.key, job.patient, job.study) for unit in plan(source, options) for job in unit.jobs}
        for source in (nih, source_of(NAME, original))
    ]
    assert jobs[0] == jobs[1]


def test_the_test_list_of_nih_and_its_patients_decide_the_split(original: Path) -> None:
    test = set((original / "test_list.txt").read_text().split())
    found = source_of(NAME, original).entries()
    assert {entry.image for entry in found if entry.split == "test"} == test
    assert {entry.split for entry in found} >= {"train", "test"}
    by_hash = bare(original, "--nih-mapping", str(original / MAPPING)).entries()
    assert {entry.split for entry in by_hash} == {None}
    patients = {entry.patient for entry in by_hash}
    assert len(patients) < len(by_hash) and all(len(patient) == 8 for patient in patients)


def test_without_the_mapping_it_says_what_leaks(original: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = bare(original)
        found = source.entries()
    assert "without --nih-mapping every image is taken for a patient of its own" in caplog.text
    assert all(entry.patient == entry.image for entry in found) and source.id_space == "rsna-pneumonia"


def test_a_mapping_as_a_table(original: Path, tmp_path: Path) -> None:
    pairs = json.loads((original / MAPPING).read_text())
    rows = "".join(f"{pair['subset_img_id']},{pair['img_id']}\n" for pair in pairs)
    (tmp_path / "map.csv").write_text(f"patientId,nih_image_index\n{rows}")
    found = bare(original, "--nih-mapping", str(tmp_path / "map.csv")).entries()
    assert [entry.image for entry in found] == [entry.image for entry in source_of(NAME, original).entries()]


def test_matches_that_are_doubtful_are_counted_and_marked(
    original: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = json.loads((original / MAPPING).read_text())
    errors = ["1.2", "10.0", "10.5", "250", *[""] * (len(pairs) - 4)]
    rows = [f"{pair['subset_img_id']},{pair['img_id']},{error}" for pair, error in zip(pairs, errors, strict=True)]
    table = tmp_path / "map.csv"
    table.write_text("\n".join(["patientId,nih_image_index,mse", *rows]))
    source = bare(original, "--nih-mapping", str(table))
    with caplog.at_level(logging.WARNING):
        found = {entry.image: source.record(entry).extra.get("nih_match") for entry in source.entries()}
    assert "2 of its matches have a mean squared error above 10" in caplog.text
    assert found == {pair["img_id"]: "doubtful" if number in (2, 3) else None for number, pair in enumerate(pairs)}
    assert len(source.settings()["nih_mapping"]["map.csv"]) == 64
    replace_in(table, ",250\n", ",much\n")
    with pytest.raises(DataError, match=r"map\.csv row 5: mse is .*; expected the mean squared error of the match"):
        bare(original, "--nih-mapping", str(table)).entries()


def test_an_image_with_two_matches(original: Path, tmp_path: Path) -> None:
    pairs = json.loads((original / MAPPING).read_text())
    (tmp_path / "map.json").write_text(json.dumps([*pairs, pairs[0]]))
    assert bare(original, "--nih-mapping", str(tmp_path / "map.json")).entries()
    (tmp_path / "map.json").write_text(json.dumps([*pairs, pairs[0] | {"img_id": pairs[1]["img_id"]}]))
    with pytest.raises(DataError, match=rf"map\.json entry {len(pairs) + 1}: its image has another match above"):
        bare(original, "--nih-mapping", str(tmp_path / "map.json")).entries()


def test_facts_come_from_the_header_and_wrong_ages_are_left_out(original: Path) -> None:
    source = source_of(NAME, original)
    records = [source.record(entry) for entry in source.entries()]
    assert {record.view for record in records} == {"PA", "AP"}
    assert sum("age" not in record.extra for record in records) == 1
    assert {record.extra["sex"] for record in records} == {"M", "F"}


def test_a_box_beyond_a_smaller_copy_of_the_image(folder: Path) -> None:
    source = source_of(NAME, folder)
    entry = next(entry for entry in source.entries() if entry.payload["boxes"])
    replace_in(folder / ROOT / LABELS, f",{entry.payload['boxes'][0].x}", ",640.0")
    source = source_of(NAME, folder)
    entry = next(entry for entry in source.entries() if any(box.x == 640 for box in entry.payload["boxes"]))
    with pytest.raises(DataError, match="a box reaches beyond the image of 64 x 64 px: give the images in full size"):
        source.record(entry)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (LABELS, ",,,,,0", ",,,,,2", rf"{LABELS} row \d+: Target is '2'; expected 0 or 1"),
        (LABELS, ",,,,,0", ",1.0,1.0,5.0,5.0,0", r"row \d+: a box with Target 0"),
        (LABELS, ",,,,,0", ",,,,,1", r"row \d+: Target is 1 and x, y, width, height are no four numbers"),
        (LABELS, "Target", "target_", "there is no column 'Target'"),
        (CLASSES, "Normal", "Healthy", rf"{CLASSES} row \d+: class a text of \d+ characters; expected Normal"),
        (CLASSES, "Lung Opacity\n", "Normal\n", r"row \d+: it has \d boxes and is of class 'Normal'"),
    ],
)
def test_faults_are_named_with_file_and_row(folder: Path, file: str, old: str, new: str, message: str) -> None:
    replace_in(folder / ROOT / file, old, new)
    with pytest.raises(DataError, match=message):
        source_of(NAME, folder).entries()


def test_tables_of_two_versions_and_mappings_of_something_else(folder: Path) -> None:
    classes = folder / ROOT / CLASSES
    rows = classes.read_text().splitlines()
    classes.write_text("\n".join([*rows, f"{rows[1].split(',')[0]},{rows[1].split(',')[1]}", "another-id,Normal"]))
    with pytest.raises(DataError, match="1 patientId stand in only one of"):
        source_of(NAME, folder).entries()
    classes.write_text("\n".join(rows))
    (folder / MAPPING).write_text("[]")
    with pytest.raises(DataError, match="row 2: its image is not in --nih-mapping"):
        source_of(NAME, folder).entries()
    (folder / MAPPING).write_text('{"a": 1}')
    with pytest.raises(DataError, match="expected a list of objects with img_id and subset_img_id"):
        source_of(NAME, folder).entries()
    with pytest.raises(DataError, match="--nih-test-list names images of NIH: --nih-mapping must tell"):
        bare(folder, "--nih-test-list", str(folder / "test_list.txt"))
    with pytest.raises(DataError, match=r"--window -1: give the number of a window"):
        bare(folder, "--window", "-1")


def test_images_of_the_test_stage_have_the_labels_of_a_list(folder: Path, tmp_path: Path) -> None:
    root = folder / ROOT
    labelled = sorted((root / IMAGES).glob("*.dcm"))[:2]
    (root / TEST_IMAGES).mkdir()
    for number, path in enumerate(labelled):
        shutil.copy(path, root / TEST_IMAGES / f"other-{number}.dcm")
    labels = tmp_path / "test_list.txt"
    labels.write_text(f"{TEST_IMAGES}/other-0.dcm 0 \n\n{TEST_IMAGES}/other-1.dcm 1\n")
    source = bare(folder, "--test-labels", str(labels))
    found = [entry for entry in source.entries() if entry.payload["path"].startswith(TEST_IMAGES)]
    assert [(entry.image, entry.split, entry.labels) for entry in found] == [
        ("other-0", "test", {"Pneumonia": 0, "Normal": None}),
        ("other-1", "test", {"Pneumonia": 1, "Normal": None}),
    ]
    assert source.record(found[1]).image.ndim == 2
    labels.write_text(f"{TEST_IMAGES}/other-0.dcm pneumonia\n")
    with pytest.raises(DataError, match="test_list.txt, line 1: expected the name of an image and 0 or 1"):
        source.entries()
