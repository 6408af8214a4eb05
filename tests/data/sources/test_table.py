"""A folder of radiographs with a table of reports: what is read, and what each fault says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.image_files import Decoding
from msvl.data.pack import PackOptions, pack
from msvl.data.packed import PackedSet
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.reader import SampleReader
from msvl.data.sources.table import TableColumns, TableSource
from msvl.data.sources.table_masks import TableMasks
from tests.helpers.runs import execute

CSV = "image,report,patient,effusion\na.png,Small left effusion.,p1,1\nb.png,Clear lungs today.,p2,0\n"


def source(folder: Path, text: str | bytes = CSV, *, name: str = "reports.csv", **columns: object) -> TableSource:
    for number, image in enumerate(("a.png", "b.png", "c.png")):
        cv2.imwrite(str(folder / image), np.full((40, 40), 40 * number, dtype=np.uint8))
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return TableSource(folder, folder / name, TableColumns(**columns))  # type: ignore[arg-type]


def test_a_row_becomes_an_entry_and_a_record(tmp_path: Path) -> None:
    table = source(tmp_path, patient="patient", labels=("effusion",))
    first, second = table.entries()
    assert (first.patient, first.image, first.where) == ("p1", "a.png", "reports.csv row 2")
    record = table.record(second)
    assert record.report == "Clear lungs today."
    assert record.labels == {"effusion": 0}
    assert record.image.max() == 40


def test_quoted_line_breaks_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufeffimage,report\na.png,"FINDINGS: Clear,\nno effusion."\n'
    table = source(tmp_path, text)
    assert table.record(table.entries()[0]).report == "FINDINGS: Clear,\nno effusion."


def test_tab_separated_and_json_lines(tmp_path: Path) -> None:
    tabs = source(tmp_path, CSV.replace(",", "\t"), name="reports.tsv")
    assert [entry.image for entry in tabs.entries()] == ["a.png", "b.png"]
    lines = "\n".join(json.dumps({"image": name, "report": "Clear lungs today."}) for name in ("a.png", "b.png"))
    rows = source(tmp_path, lines + "\n\n", name="reports.jsonl").entries()
    assert [entry.image for entry in rows] == ["a.png", "b.png"]


def test_dicom_files_of_ones_own(tmp_path: Path) -> None:
    deep = (np.arange(1600).reshape(40, 40) * 2).astype(np.uint16)
    write_dicom(tmp_path / "d.dcm", deep, bits=12, WindowCenter=900, WindowWidth=400)
    text = "image,report\nd.dcm,Clear lungs today.\n"
    table = source(tmp_path, text)
    assert table.record(table.entries()[0]).image[0, 0] == table.record(table.entries()[0]).image[5, 0]
    bare = TableSource(tmp_path, tmp_path / "reports.csv", TableColumns(), decoding=Decoding(window=0))
    assert np.array_equal(bare.record(bare.entries()[0]).image, deep)


def test_sections_in_columns_of_their_own(tmp_path: Path) -> None:
    text = "image,f,i\na.png,Clear lungs.,No acute disease.\nb.png,nan,Normal chest.\nc.png,,\n"
    table = source(tmp_path, text, report=None, sections={"findings": "f", "impression": "i"})
    both, one, none = table.entries()
    assert table.record(both).report == "FINDINGS: Clear lungs.\nIMPRESSION: No acute disease."
    assert table.record(one).report == "IMPRESSION: Normal chest."
    with pytest.raises(DataError, match=r"reports\.csv row 4: the report is empty"):
        table.record(none)


def test_sex_age_and_race_are_kept(tmp_path: Path) -> None:
    text = "image,report,s,a,r\na.png,Small left effusion.,Female,061Y,White\nb.png,Clear lungs today.,,,\n"
    table = source(tmp_path, text, sex="s", age="a", race="r")
    first, second = (table.record(entry) for entry in table.entries())
    assert first.extra == {"sex": "F", "age": 61.0, "race": "White"}
    assert second.extra == {}


def test_masks_are_read_and_a_row_without_one_is_no_empty_mask(tmp_path: Path) -> None:
    text = "image,report,m\na.png,Small left effusion.,a-mask.png\nb.png,Clear lungs today.,\nc.png,Clear lungs.,small.png\n"
    source(tmp_path, text)
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10:20, 5:9] = 255
    cv2.imwrite(str(folder / "a-mask.png"), mask)
    cv2.imwrite(str(folder / "small.png"), mask[:20])
    table = TableSource(tmp_path, tmp_path / "reports.csv", TableColumns(), masks=TableMasks(folder, "m", "lungs"))
    assert table.mask_names == ("lungs",)
    first, second, third = table.entries()
    assert np.array_equal(table.record(first).masks["lungs"], mask > 0)
    with pytest.raises(DataError, match="reports.csv row 3: the column 'm' is empty, so its mask is not known"):
        table.record(second)
    with pytest.raises(DataError, match="row 4: its mask has 40 x 20 px and its image 40 x 40"):
        table.record(third)
    (folder / "a-mask.png").unlink()
    with pytest.raises(DataError, match="row 2: its mask is missing or no image: see the folder .*/ and column 'm'"):
        table.record(first)


def test_rows_without_a_patient_are_counted_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    named = source(tmp_path, "image,report,p\na.png,Clear lungs.,1\nb.png,Clear lungs.,1\n", patient="p")
    assert len({entry.patient for entry in named.entries()}) == 1 and not caplog.records
    text = "image,report,p\na.png,Clear lungs.,1\nb.png,Clear lungs., \nc.png,Clear lungs.,nan\n"
    assert len({entry.patient for entry in source(tmp_path, text, patient="p").entries()}) == 3
    assert "2 of 3 rows have nothing in column 'p': each, or each study, counts as a patient of its own" in caplog.text


def test_images_of_a_study_stay_in_one_split_where_no_patient_is_named(tmp_path: Path) -> None:
    text = "image,report,visit,p\na.png,Clear lungs.,v1,\nb.png,Clear lungs.,v1,\nc.png,Clear lungs.,v2,9\n"
    for columns in ({}, {"patient": "p"}):
        first, second, third = source(tmp_path, text, study="visit", **columns).entries()
        assert (first.patient, first.study) == (second.patient, second.study) and third.patient != first.patient


def test_one_category_per_row(tmp_path: Path) -> None:
    text = "image,report,kind\na.png,Left opacity.,pneumonia\nb.png,Clear lungs.,normal\nc.png,Hard to say.,\n"
    labels = [entry.payload["labels"] for entry in source(tmp_path, text, category="kind").entries()]
    assert labels == [
        {"normal": 0, "pneumonia": 1},
        {"normal": 1, "pneumonia": 0},
        {"normal": None, "pneumonia": None},
    ]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("image,text\na.png,x\n", {}, r"reports\.csv: there is no column 'report': columns are image, text"),
        ("image,raport\na.png,x\n", {}, "there is no column 'report': did you mean 'raport'"),
        ("image,report\n", {}, r"reports\.csv has no rows"),
        ("image,report\n,x\n", {}, r"reports\.csv row 2: the column 'image' is empty"),
        ("image,report\na.png,x,y\n", {}, "row 2: it has another number of fields than the header's 2"),
        ("image,report\na.png\n", {}, "row 2: it has another number of fields than the header's 2"),
        (
            "image,report,e\na.png,x,maybe\n",
            {"labels": ("e",)},
            "row 2: label a text of 5 characters in column 'e'; expected 1, 0, -1",
        ),
        (
            "image,report,s\na.png,x,third\n",
            {"split": "s"},
            "row 2: split a text of 5 characters in column 's'; expected train, val",
        ),
        ("image,report\na.png,\xe9t\xe9\n".encode("latin1"), {}, r"line 2: this is not UTF-8; convert it first: iconv"),
    ],
)
def test_faults_of_the_table(tmp_path: Path, text: str | bytes, columns: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        source(tmp_path, text, **columns).entries()


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", r"reports\.jsonl line 1: this is not JSON"), ("[1]", "line 1: expected an object with named fields")],
)
def test_faults_of_json_lines(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source(tmp_path, line + "\n", name="reports.jsonl").entries()


def test_a_column_of_free_text_is_no_category(tmp_path: Path) -> None:
    rows = "".join(f"a.png,x,kind {number}\n" for number in range(40))
    with pytest.raises(DataError, match="column 'k' has 40 values; a label column has few"):
        source(tmp_path, "image,report,k\n" + rows, category="k").entries()


def test_folders_and_tables_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--images .*: there is no such folder"):
        TableSource(tmp_path / "none", tmp_path / "t.csv", TableColumns())
    with pytest.raises(DataError, match="--reports .*: there is no such file"):
        TableSource(tmp_path, tmp_path / "t.csv", TableColumns()).entries()
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"expected a name that ends in \.csv, \.tsv or \.jsonl"):
        TableSource(tmp_path, tmp_path / "t.xlsx", TableColumns()).entries()


def test_a_split_of_your_own_is_kept_and_no_source_id_reaches_the_shards(tmp_path: Path) -> None:
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"secret-{number}.png"), np.full((40, 40), 20 * number, dtype=np.uint8))
    rows = "".join(
        f"secret-{n}.png,Report number {n} of these.,secret-{n},{'test' if n < 3 else 'train'}\n" for n in range(12)
    )
    table = source(tmp_path, "image,report,patient,split\n" + rows, patient="patient", split="split")
    pack(table, tmp_path / "out", PackOptions(short_side=32, id_key="k"), workers=1, progress=False)
    packed = PackedSet.open(tmp_path / "out")
    assert len(SampleReader(packed.split("test")).index) == 3
    assert len(SampleReader(packed.split("train")).index) == 9
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert b"secret-" not in file.read_bytes(), file


@pytest.mark.parametrize("study", [None, "visit"])
def test_an_image_of_two_patients_is_packed_once_and_the_other_row_is_named(tmp_path: Path, study: str | None) -> None:
    text = (
        "image,report,patient,visit,split\na.png,Clear lungs today.,1,x,train\na.png,Clear lungs today.,2,y,test\n"
        "b.png,Small effusion left.,2,y,test\nc.png,Large effusion left.,3,z,val\n"
    )
    table = source(tmp_path, text, patient="patient", study=study, split="split")
    pack(table, tmp_path / "out", PackOptions(short_side=32), workers=1, progress=False)
    packed = PackedSet.open(tmp_path / "out")
    assert [packed.counts(split)["samples"] for split in ("train", "val", "test")] == [1, 1, 1]
    dropped = (tmp_path / "out" / "dropped.csv").read_text().splitlines()[1:]
    assert len(dropped) == 1 and "reports.csv row 3" in dropped[0]


def test_the_command_says_the_fault_in_one_line(tmp_path: Path) -> None:
    source(tmp_path, "image,text\na.png,x\n")
    words = ["data", "pack", "table", "--images", str(tmp_path), "--reports", str(tmp_path / "reports.csv")]
    done = execute([sys.executable, "-m", "msvl.cli", *words, "--out", str(tmp_path / "out")])
    assert done.code == 2
    assert "there is no column 'report'" in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()
    assert (
        "without --patient-column every row (with --study-column every study) is taken for a patient of its own"
        in done.output
    )


def test_other_views_are_dropped_with_their_reason(tmp_path: Path) -> None:
    text = "image,report,view\na.png,Clear lungs today.,PA\nb.png,Clear lungs today.,Lateral\n"
    table = source(tmp_path, text, view="view", views=("pa", "ap"))
    first, second = table.entries()
    assert table.record(first).view == "PA"
    with pytest.raises(DataError, match="reports.csv row 3: its view is not among --views"):
        table.record(second)


def test_a_table_that_is_not_there_is_named_even_where_the_set_exists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--reports .*none.csv: there is no such file"):
        TableSource(tmp_path, tmp_path / "none.csv", TableColumns())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_side": 0}, "--short-side 0"),
        ({"shard_samples": 0}, "--shard-samples 0"),
        ({"val_share": 0.8, "test_share": 0.8}, "whose sum is at most 1"),
    ],
)
def test_options_out_of_their_range_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PackOptions(**options)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((32, 32), np.uint8))
    (tmp_path / "r.csv").write_text("image,report\na.png,The lungs are clear.\n")
    source = TableSource(tmp_path / "images", tmp_path / "r.csv", TableColumns())
    with pytest.raises(DataError, match="cannot be written .* choose another --out"):
        pack(source, Path("/proc/nowhere/set"), PackOptions(), workers=1, progress=False)
