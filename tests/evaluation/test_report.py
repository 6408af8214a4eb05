"""The report page and results.json of a run folder."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.evaluation.report import write_report
from msvl.evaluation.results import write_results
from tests.evaluation.toy_run import write_toy_run


class Outline(HTMLParser):
    """Collects what a test asks about, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "img", "br", "line", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (self.open[-3:], tag)
        self.open.pop()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_toy_run(tmp_path_factory.mktemp("runs") / "toy")
    write_report(folder)
    return folder


def outline(folder: Path) -> Outline:
    parser = Outline()
    parser.feed((folder / "report.html").read_text(encoding="utf-8"))
    return parser


def test_the_page_loads_nothing_from_elsewhere(run: Path) -> None:
    found = outline(run)
    loaded = [
        value for _, name, value in found.attributes if name in {"src", "href", "srcset", "data", "action", "poster"}
    ]
    assert loaded and all(value.startswith("data:image/png;base64,") for value in loaded)
    assert not {"script", "link", "iframe", "object", "embed"} & set(found.tags)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|@import|url\(", text)


def test_the_page_is_well_formed(run: Path) -> None:
    assert outline(run).open == []


def test_every_picture_has_a_description(run: Path) -> None:
    found = outline(run)
    described = [value for tag, name, value in found.attributes if tag == "img" and name == "alt"]
    assert len(described) == found.tags.count("img") > 0
    assert all(described)


def test_the_page_shows_every_scale_and_every_headline(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    for words in ("total", "global", "local", "instance", "modality", "Zero-shot AUC", "Report R@5", "Grounding CNR",
                  "Grounding mIoU", "Linear-probe AUC", "Pixel baseline AUC", "untrained", "chance"):  # fmt: skip
        assert words in text, words


def test_the_page_shows_overlays_and_nearest_reports(run: Path) -> None:
    found = outline(run)
    assert found.tags.count("img") == 4 * 2 + 4
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "There is a spot at p" in text and "own report ranks" in text


def test_the_page_shows_the_second_data_set(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "On other data" in text and "shifted: 36 images of 36 patients" in text


def test_text_from_outside_is_escaped(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "toy &lt;run&gt;" in text and "toy <run>" not in text


def test_few_patients_are_said_where_the_figures_stand(run: Path) -> None:
    assert "Only 60 patients were judged: the figures prove that the job runs" in (run / "report.html").read_text()


def test_a_page_with_real_report_text_says_so(tmp_path: Path) -> None:
    folder = write_toy_run(tmp_path / "real", shareable=False)
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "contains radiographs and report text of patients (CC0 &amp; more)" in text


@pytest.mark.evidence(
    "results.json has the promised figures, each with its interval and the untrained model's, throughput, seconds per phase, versions, "
    "ranks, stage and precision",
    how="cpu",
)
def test_results_hold_the_names_that_others_rely_on(run: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for task, name in (
        ("zero_shot", "auc_mean"), ("retrieval", "report_r5"), ("grounding", "cnr"), ("grounding", "miou"),
        ("linear_probe", "auc_mean"),
    ):  # fmt: skip
        figures = results[task]
        assert isinstance(figures[name], float)
        assert isinstance(figures[f"{name}_untrained"], float)
        assert len(figures[f"{name}_interval"]) == len(figures[f"{name}_untrained_interval"]) == 2
    assert isinstance(results["retrieval"]["report_r5_chance"], float)
    assert "report_r5_chance_untrained" not in results["retrieval"]
    assert results["throughput"]["pairs_per_second"] == pytest.approx(133, abs=3)
    assert results["seconds"]["train"] == 200.0
    assert results["versions"] == {"torch": "2"}
    facts = results["facts"]
    assert (facts["ranks"], facts["zero_stage"], facts["precision"]) == (2, 2, "fp32")
    assert {"evaluate test", "evaluate shifted"} <= set(results["seconds"])


def test_the_headline_is_the_runs_own_data(run: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert results["judged"]["evaluation"] == "test"  # 'shifted' comes first in the alphabet
    assert list(results["other_evaluations"]) == ["shifted"]


def test_phases_of_a_driver_are_kept(run: Path) -> None:
    (run / "seconds.json").write_text('{"pack phantom": 60.5}', encoding="utf-8")
    results = write_results(run, extra={"seconds": {"total": 400.0}})
    assert results["seconds"]["pack phantom"] == 60.5
    assert results["seconds"]["total"] == 400.0
    (run / "seconds.json").unlink()


def test_a_run_that_was_not_judged_says_what_to_type(tmp_path: Path) -> None:
    folder = write_toy_run(tmp_path / "early", judged=False)
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "Not judged yet" in text and f"msvl evaluate {folder}" in text
    assert "Loss per scale" in text


def test_a_missing_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no run folder .*nothing: name one that `msvl train` wrote"):
        write_report(tmp_path / "nothing")


def test_an_empty_run_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has neither metrics.jsonl nor evaluation"):
        write_report(tmp_path / "empty")


def test_a_damaged_evaluation_is_named(tmp_path: Path) -> None:
    folder = write_toy_run(tmp_path / "damaged", judged=False)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "test.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.json is not readable as JSON: make it again with `msvl evaluate`"):
        write_report(folder)
