"""docs/hardware.md: the table is what the published pages say."""

from __future__ import annotations

import json
from pathlib import Path

from launch.acceptance.hardware import BEGIN, DOCUMENT, END, FOLDER, main, read_records, table, take_in, with_rows
from launch.acceptance.page import DATA, render, write_page
from launch.acceptance.results import Result
from tests.launch.acceptance.findings import FACTS, PACE, passed


def test_the_document_holds_a_row_per_page_and_each_page_is_made_of_its_json() -> None:
    records = read_records(FOLDER)
    assert records
    document = DOCUMENT.read_text(encoding="utf-8")
    assert with_rows(document, records) == document, "run python -m launch.acceptance.hardware"
    for name, record in records.items():
        assert record["accepted"]
        assert (FOLDER / f"{name}.html").read_text(encoding="utf-8") == render(record), "run it again with the JSON"


def test_a_row(tmp_path: Path) -> None:
    found = {"open_clip": PACE | {"pairs_per_second": 2100.0}, "msvl_global_scale": PACE}
    results = [*passed()[:5], Result("open_clip", "open_clip's loop", "passed", "", found=found)]
    write_page(tmp_path, results, FACTS)
    take_in(tmp_path / DATA, "two-h100", tmp_path / "pages")
    records = read_records(tmp_path / "pages")
    row = table(records).splitlines()[2]
    for cell in (
        "2 x NVIDIA H100 80GB HBM3 (NCCL)", "accepted", "210.50 GB/s", "168.00 GB/s", "mimic_cxr", "2,345.6", "0.218 s", "61.2 GB", "3%",
        "2,100.0 pairs/s", "[page](hardware/two-h100.html)",
    ):  # fmt: skip
        assert f"| {cell}" in row, (cell, row)


def test_a_row_of_a_page_without_figures_names_what_failed() -> None:
    from launch.acceptance.page import as_record

    record = as_record([Result("data", "Simulated radiographs", "failed", "no room")], FACTS)
    assert "| failed: Simulated radiographs | - | - |" in table({"bad": record})


def test_the_rest_of_the_document_stays() -> None:
    document = f"# Title\n{BEGIN}\nold\n{END}\nThe end.\n"
    assert with_rows(document, {}).startswith(f"# Title\n{BEGIN}\n| machine |")
    assert with_rows(document, {}).endswith(f"{END}\nThe end.\n")


def test_a_page_without_a_name_is_refused(capfd) -> None:  # type: ignore[no-untyped-def]
    assert main([json.dumps("only one word")]) == 2
    assert "ACCEPTANCE.json NAME" in capfd.readouterr().err


def test_what_is_no_page_is_refused_and_leaves_nothing(tmp_path: Path, capfd) -> None:  # type: ignore[no-untyped-def]
    before = sorted(FOLDER.iterdir())
    (tmp_path / "other.json").write_text('{"checks": []}')
    for name in ("other.json", "nowhere.json"):
        assert main([str(tmp_path / name), "mine"]) == 2
        assert f"{name} is no page of an acceptance" in capfd.readouterr().err
    assert sorted(FOLDER.iterdir()) == before
