"""Tables as they are shipped: what is tolerated, and what each fault says."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.data.csv_table import read_rows

HEADER = "Image Index, Patient ID ,Labels\n"


def rows(
    folder: Path, content: str | bytes, *, name: str = "t.csv", optional: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return [row for _, row in read_rows(folder / name, ("image index", "Labels"), optional)]


PLAIN = [{"image index": "a.png", "Labels": "x"}]


@pytest.mark.parametrize(
    "content",
    [
        "Image Index,Labels\na.png,x\n",
        "\ufeffimage index,LABELS\na.png,x\n",
        "Image Index , Labels\r\n a.png , x\r\n",
        "Unnamed: 0,Image Index,Labels\n0,a.png,x\n",
        ",Image Index,Labels\n0,a.png,x\n",
        "Image Index,Labels,,,\na.png,x\n",
        "Image Index,Labels,\na.png,x,\n",
        "Image Index,Labels\na.png,x,,\n",
        "Image Index,Labels\n\na.png,x\n,\n",
        '"Image Index","Labels"\n"a.png","x"\n',
    ],
)
def test_forms_of_one_table(tmp_path: Path, content: str) -> None:
    assert rows(tmp_path, content) == PLAIN
    assert rows(tmp_path, content, name="t.csv.gz") == PLAIN


def test_cells_keep_line_breaks_commas_quotes_and_leading_zeros(tmp_path: Path) -> None:
    found = rows(tmp_path, 'Image Index,Labels\n00000001,"a ""b"",\n\nc"\n00000002,é\n')
    assert [row["image index"] for row in found] == ["00000001", "00000002"]
    assert [row["Labels"] for row in found] == ['a "b",\n\nc', "é"]


def test_optional_columns_are_given_where_they_are(tmp_path: Path) -> None:
    assert rows(tmp_path, HEADER + "a.png,1,x\n", optional=("patient id", "Sex")) == [
        {"image index": "a.png", "Labels": "x", "patient id": "1"}
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Image,Labels\na,x\n", r"t\.csv: there is no column 'image index': columns are Image, Labels; is it the right"),
        ("a,b\n1,2\n", r"there is no column 'image index', 'Labels': columns are a, b"),
        ("Image Index;Labels\na;x\n", "its cells are separated by semicolons; save it with commas"),
        ("Image Index\tLabels\na\tx\n", "its cells are separated by tabs"),
        ("Image Index,Labels\n", r"t\.csv has a header and no rows"),
        ("", r"t\.csv is empty"),
        (" \n", r"t\.csv is empty"),
        ("Image Index,Labels\na.png,x\nb.png\n", r"t\.csv row 3: it has 1 cells and the header 2"),
        ("Image Index,Labels\na.png,x,y\n", r"t\.csv row 2: it has 3 cells and the header 2"),
        ("Image Index,Labels\na.png,x\nImage Index,Labels\n", r"row 3: the header is there again; two tables were joined"),
        ("Image Index,Labels,labels\na.png,x,y\n", "the column 'Labels' is there 2 times"),
        ("Image Index,Labels\na.png,x\nb.png,é\n".encode("latin1"), r"t\.csv, line 3: this is not UTF-8; .*iconv"),
        ('Image Index,Labels\na.png,"x\n', r"t\.csv, after row 1: this is no CSV .*one that is opened be closed, or the file is cut short"),
        (b"PK\x03\x04....", "is a zip or Excel file"),
        (b"\xff\xfeI\x00", "is UTF-16: save it as CSV UTF-8"),
        (b"<!DOCTYPE html><html>", "is a web page, perhaps that of a login"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git LFS"),
        (gzip.compress(b"Image Index,Labels\n"), "is compressed: name it with .gz at the end"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path, content)


def test_a_cut_gzip_file_and_one_that_is_none(tmp_path: Path) -> None:
    whole = gzip.compress(b"Image Index,Labels\n" + b"".join(b"%d.png,x\n" % n for n in range(5000)))
    for content, message in (
        (whole[: len(whole) // 2], "is cut short .*: download it again"),
        (b"Image Index,Labels\na.png,x\n", r"is not compressed: take \.gz from its name"),
    ):
        (tmp_path / "t.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match=rf"t\.csv\.gz {message}"):
            list(read_rows(tmp_path / "t.csv.gz", ("Image Index",)))


def test_the_line_of_a_fault_in_a_compressed_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv\.gz, line 2: this is not UTF-8"):
        rows(tmp_path, "Image Index,Labels\na.png,é\n".encode("latin1"), name="t.csv.gz")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: there is no such file"):
        list(read_rows(tmp_path / "none.csv", ("a",)))
