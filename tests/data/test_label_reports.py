"""Sentences made from labels."""

from __future__ import annotations

from msvl.data.label_reports import MOST_ABSENT, report_from_labels
from msvl.data.reports import Section, plain, split_sections, split_sentences

LABELS = {"Pleural_Thickening": 1, "Edema": -1, "Lung Opacity": 0, "Fracture": None, "No Finding": None}


def sentences(report: str) -> list[str]:
    section = next(item for item in split_sections(report) if item.name == "findings")
    assert isinstance(section, Section)
    return [plain(report, item.start, item.end) for item in split_sentences(report, section)]


def test_each_stated_finding_gets_one_sentence_and_blank_ones_none() -> None:
    said = sentences(report_from_labels(LABELS, "key"))
    assert len(said) == 3
    assert "pleural thickening" in said[0].lower()
    assert "edema" in said[1].lower() and any(word in said[1].lower() for word in ("possible", "cannot", "may"))
    assert "lung opacity" in said[2].lower() and "no " in said[2].lower()
    assert "fracture" not in " ".join(said).lower()


def test_the_same_key_gives_the_same_words_and_other_keys_others() -> None:
    assert report_from_labels(LABELS, "a") == report_from_labels(dict(reversed(LABELS.items())), "a").strip()
    assert len({report_from_labels(LABELS, str(number)) for number in range(50)}) > 10


def test_at_most_three_findings_are_denied() -> None:
    assert len(sentences(report_from_labels({f"finding {n}": 0 for n in range(14)}, "k"))) == MOST_ABSENT


def test_no_finding_is_a_normal_report_and_no_label_is_no_report() -> None:
    assert "abnormal" in report_from_labels({"No Finding": 1, "Edema": None}, "k")
    assert report_from_labels({"No Finding": 0, "Edema": None}, "k") == ""
    assert report_from_labels({}, "k") == ""
