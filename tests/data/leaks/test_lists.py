"""Published lists in the forms in which they are published: who is in two of them."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.leaks.compare import Overlap, compare_all
from msvl.data.leaks.group import Argument
from msvl.data.leaks.layouts import ImageName, base_name, read_name, read_patient
from msvl.data.leaks.list_file import Columns, read_list
from msvl.data.leaks.list_names import Naming, list_argument
from msvl.data.leaks.mapping import read_mapping
from msvl.data.leaks.tell import as_text, notes
from tests.helpers.runs import execute

LEAKS = [sys.executable, "-m", "msvl.cli", "data", "leaks"]
KNOWN = Columns()
DICOM = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"


def read(folder: Path, mapping: Path | None = None, columns: Columns = KNOWN, **contents: str) -> list[Argument]:
    """Write lists and read them; `__` in a name is its ending's dot."""
    lists = []
    for name, content in contents.items():
        path = folder / name.replace("__", ".")
        path.write_text(content, encoding="utf-8")
        lists.append(read_list(path, columns))
    naming = Naming.of(
        lists, read_mapping(mapping) if mapping else {}, patient_column_first=columns.patient is not None
    )
    return [list_argument(found, naming) for found in lists]


def whole(arguments: list[Argument]) -> Overlap:
    return next(item for item in compare_all(arguments, within=0) if not item.first.split)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("00000001_000.png", ImageName("nih/00000001_000", "nih/00000001")),
        ("images_001/images/00000001_000.png", ImageName("nih/00000001_000", "nih/00000001")),
        ("CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg",
         ImageName("chexpert/patient00002/study2/view1_frontal", "chexpert/patient00002", "chexpert/patient00002/study2")),
        ("PNG/train/patient00002/study2/view1_frontal.png",
         ImageName("chexpert/patient00002/study2/view1_frontal", "chexpert/patient00002", "chexpert/patient00002/study2")),
        (f"files/p10/p10000032/s50414267/{DICOM}.jpg",
         ImageName(f"mimic/{DICOM}", "mimic/10000032", "mimic/50414267")),
        ("files/p10/p10000032/s50414267.txt", ImageName("mimic/s50414267", "mimic/10000032", "mimic/50414267")),
        (DICOM, ImageName(f"mimic/{DICOM}")),
        ("../deid_png/GRDNLZHK1CJMB9DS/GRDN0A/studies/1.2/series/1.3/instances/1.4.png",
         ImageName("rexgradient/1.4", "rexgradient/GRDNLZHK1CJMB9DS", "rexgradient/GRDN0A")),
        ("CXR1_IM-0001-4001.png", ImageName("openi/1_0001-4001", "openi/1", "openi/1")),
        ("CXR1_1_IM-0001-3001.png", ImageName("openi/1_0001-3001", "openi/1", "openi/1")),
        ("1_IM-0001-4001.dcm.png", ImageName("openi/1_0001-4001", "openi/1", "openi/1")),
        ("518837e6-5dfa-47a6-9556-0260fd34e921.dcm", None),
        ("1.2.276.0.7230010.3.1.4.8323329.32652.1517875161.641603", None),
        ("216840111366964013829543166512013353113303615_02-092-190.png", None),
    ],
)  # fmt: skip
def test_names_of_known_data_sets(path: str, expected: ImageName | None) -> None:
    assert read_name(path) == expected


def test_endings_are_taken_off_and_numbers_of_uids_are_not() -> None:
    assert base_name("stage_2_train_images/518837e6.dcm") == "518837e6"
    assert base_name("a/1.2.276.641603") == "1.2.276.641603"
    assert base_name("x.nii.gz") == "x.nii"
    assert read_patient("10000032.0") == read_patient("p10000032") == "mimic/10000032"
    assert (
        read_patient("216840111366964013829543166512013353113303615") == "216840111366964013829543166512013353113303615"
    )


def test_one_data_set_in_all_its_spellings(tmp_path: Path) -> None:
    nih = read(
        tmp_path,
        train__txt="00000001_000.png\n00000002_000.png\n",
        labels__txt="images/00000001_001.png 0 0 1\nimages/00000003_000.png 0 0 0\n",
        entry__csv="Image Index,Finding Labels,Follow-up #,Patient ID\n00000002_000.png,Mass|Edema,0,2\n00000004_000.png,,0,4\n",
    )
    assert [(whole([one, other]).patients, whole([one, other]).images) for one, other in ((nih[0], nih[1]), (nih[0], nih[2]))] == [
        (1, 0), (1, 1),
    ]  # fmt: skip
    mimic = read(
        tmp_path,
        split__csv=f"dicom_id,study_id,subject_id,split\n{DICOM},50414267,10000032,train\n",
        boxes__csv=f"dicom_id,path,x,y\n{DICOM},files/p10/p10000032/s50414267/{DICOM}.jpg,1,2\n",
    )
    assert (whole(mimic).patients, whole(mimic).images) == (1, 1)
    chexpert = read(
        tmp_path,
        train__csv="Path,Sex\nCheXpert-v1.0/train/patient00002/study2/view1_frontal.jpg,F\n",
        plus__csv=",path_to_image,deid_patient_id\n0,train/patient00002/study2/view1_frontal.jpg,patient00002\n",
        bare__txt="valid/patient64541/study1/view1_frontal.jpg,0,1\n",
    )
    assert (whole(chexpert[:2]).patients, whole(chexpert[:2]).images) == (1, 1)
    assert not whole(chexpert[1:]).leaks


def test_a_split_column_and_gzip(tmp_path: Path) -> None:
    text = "dicom_id,study_id,subject_id,split\n" + "".join(
        f"{DICOM[:-1]}{n},{50000000 + n},{10000000 + n % 3},{('train', 'validate', 'test', 'test')[n]}\n"
        for n in range(4)
    )
    path = tmp_path / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    argument = list_argument(read_list(path, Columns()), Naming(False, {}, False))
    assert {group.split: len(group) for group in argument.groups} == {"train": 1, "val": 1, "test": 2}
    shared = {f"{item.first.split}-{item.second.split}": item.patients for item in compare_all([argument], within=0)}
    assert shared == {"train-val": 0, "train-test": 1, "val-test": 0}


def test_r2gen_annotations(tmp_path: Path) -> None:
    content = {"train": [{"id": "CXR1_1", "report": "No effusion is seen.", "image_path": ["CXR1_IM-1-1/0.png", "b.png"]}],
               "test": [{"id": "CXR2_1", "report": "no effusion is seen", "image_path": ["CXR2_IM-1-1/0.png"]}]}  # fmt: skip
    (found,) = read(tmp_path, annotation__json=json.dumps(content))
    (overlap,) = compare_all([found], within=0)
    assert (overlap.images, overlap.texts, overlap.leaks) == (0, 1, False)


def test_names_that_repeat_in_folders_are_compared_by_path(tmp_path: Path) -> None:
    lists = {"a__csv": "path\np1/1.png\np2/1.png\n", "b__csv": "path\np3/1.png\n"}
    assert whole(read(tmp_path, **lists)).images == 0
    assert whole(read(tmp_path, a__csv="path\nimages/1.png\n", b__csv="path\nelsewhere/1.jpg\n")).images == 1


@pytest.mark.evidence("RSNA and SIIM lists are found in NIH ChestX-ray14 by a mapping file", how="cpu")
def test_rsna_images_are_nih_images(tmp_path: Path) -> None:
    ids = [f"518837e6-5dfa-47a6-9556-0260fd34e92{n}" for n in range(4)]
    mapping = tmp_path / "mapping.json"
    nih_names = ["00000001_000.png", "00000001_001.png", "00000005_000.png", "00000006_000.png"]
    mapping.write_text(
        json.dumps(
            [{"subset_img_id": i, "img_id": n, "orig_labels": ["Mass"]} for i, n in zip(ids, nih_names, strict=True)]
        )
    )
    lists = {
        "nih__txt": "00000001_000.png\n00000007_000.png\n",
        "rsna_train__csv": f"patientId,x,y,Target\n{ids[0]},1,2,1\n{ids[0]},3,4,1\n{ids[2]},,,0\n",
        "rsna_test__txt": f"stage_2_train_images/{ids[1]}.dcm 0\nstage_2_train_images/{ids[3]}.dcm 1\n",
    }
    nih, train, test = read(tmp_path, mapping, **lists)
    assert len(train.groups[0]) == 2, "an image with two boxes is one"
    assert (whole([nih, train]).patients, whole([nih, train]).images) == (1, 1)
    assert (whole([train, test]).patients, whole([train, test]).images, whole([train, test]).reached) == (1, 0, 1)
    blind = read(tmp_path, **lists)
    assert (whole([blind[1], blind[2]]).patients, whole([blind[1], blind[2]]).images) == (None, 0)
    assert any("--mapping" in note for note in notes(blind))
    assert "no leak found in what could be compared" in as_text(compare_all(blind[1:], within=0), blind[1:])


def test_a_mapping_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "mapping.csv"
    path.write_text(
        "patientId,nih_image_index,nih_patient_id,age\naaa-1,00000001_000.png,1,58\nbbb-2,00000001_001.png,1,58\n"
    )
    assert read_mapping(path) == {
        "aaa-1": "00000001_000.png", "bbb-2": "00000001_001.png",
        "00000001_000": "00000001_000.png", "00000001_001": "00000001_001.png",
    }  # fmt: skip


def test_doubtful_matches_of_a_mapping_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mapping.csv"
    path.write_text("patientId,nih_image_index,mse\naaa-1,00000001_000.png,1.2\nbbb-2,00000002_000.png,31.5\n")
    assert set(read_mapping(path)) == {"aaa-1", "bbb-2", "00000001_000", "00000002_000"}
    assert "mapping.csv: 1 of its matches have a mean squared error above 10" in caplog.text


def test_the_command_on_three_lists(tmp_path: Path) -> None:
    uid = "1.2.276.0.7230010.3.1.4.8323329.32652.1517875161.64160"
    for name, numbers in (("train", range(6)), ("val", (5, 6)), ("test", (0, 7))):
        (tmp_path / f"{name}.txt").write_text("".join(f"{uid}{n}\n" for n in numbers))
    paths = [str(tmp_path / f"{name}.txt") for name in ("train", "val", "test")]
    found = execute([*LEAKS, *paths])
    assert found.code == 1, found.output
    assert f"LEAK: {paths[0]} and {paths[2]} share 1 image" in found.output
    assert f"LEAK: {paths[1]}" not in found.output
    told = json.loads(execute([*LEAKS, *paths, "--json"]).output)
    assert [item["images"] for item in told["comparisons"]] == [1, 1, 0]
    assert execute([*LEAKS, *paths[1:]]).code == 0


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.csv", "uid,foo\nx,y\n", Columns(), "neither a header with a known column nor the name of an image"),
        ("a.csv", "split,foo\ntrain,y\n", Columns(), "--image-column"),
        ("a.csv", "image,foo\na.png,y\n", Columns(patient="person"), "no column 'person': mend --patient-column"),
        ("a.csv", "image,split\na.png,secret text\n", Columns(), "record 1: the column 'split' says neither train"),
        ("a.csv", "image,patient\n,secret text\n", Columns(), "record 1: the column 'image' is empty"),
        ("a.csv", "image\n", Columns(), "lists no images"),
        ("a.json", "{broken", Columns(), "cannot be read"),
        ("a.csv.gz", "image\na.png\n", Columns(), "cannot be read"),
        ("missing.csv", None, Columns(), "no such file"),
    ],
)
def test_faults_name_file_and_cure(
    tmp_path: Path, name: str, content: str | None, columns: Columns, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_list(tmp_path / name, columns)
    assert str(tmp_path / name) in str(caught.value) and message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_column_that_the_user_names_counts_first(tmp_path: Path) -> None:
    text = "File,who\n00000001_000.png,a\n00000002_000.png,b\n"
    other = "File,who\n00000003_000.png,b\n"
    assert whole(read(tmp_path, a__csv=text, b__csv=other)).patients == 0
    named = read(tmp_path, columns=Columns(patient="who"), a__csv=text, b__csv=other)
    assert whole(named).patients == 1


def test_latin_1_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("image\nL\xfcbeck.png\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_list(tmp_path / "a.csv", Columns())


def test_an_open_quote_hides_no_image(tmp_path: Path) -> None:
    train = 'image,report\n00000001_000.png,"Clear lungs.\n00000002_000.png,Clear.\n00000003_000.png,"No effusion."\n'
    with pytest.raises(DataError, match=r"train\.csv, after row 1: this is no CSV .*one that is opened be closed"):
        read(tmp_path, train__csv=train)
    whole_text = train.replace('"Clear lungs.', '"Clear ""lungs"", no\neffusion."')
    (tmp_path / "train.csv").write_text(whole_text)
    assert [row.path[:8] for row in read_list(tmp_path / "train.csv", KNOWN).rows] == [
        "00000001",
        "00000002",
        "00000003",
    ]
