"""Reports into sections and sentences, on hand-made cases and on the 3,955 real Open-i reports."""

from __future__ import annotations

import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from msvl.data.identity import normalised_text
from msvl.data.reports import (
    Section,
    choose_sections,
    count_words,
    has_words,
    plain,
    split_sections,
    split_sentences,
)

OPENI = Path(__file__).resolve().parents[3] / "shared" / "data" / "openi" / "NLMCXR_reports.tgz"


def sections(text: str) -> dict[str, str]:
    return {section.name: text[section.start : section.end] for section in split_sections(text)}


def sentences(text: str) -> list[str]:
    return [plain(text, s.start, s.end) for s in split_sentences(text, Section("findings", 0, len(text)))]


@pytest.fixture(scope="module")
def openi() -> list[str]:
    """The text of all real reports, a line per section."""
    if not OPENI.is_file():
        pytest.skip(f"{OPENI} is absent: real reports lie beside the project, not in it")
    texts = []
    with tarfile.open(OPENI) as archive:
        for member in archive:
            if member.name.endswith(".xml"):
                root = ElementTree.parse(archive.extractfile(member)).getroot()
                texts.append("\n".join(f"{part.get('Label')}: {part.text or ''}" for part in root.iter("AbstractText")))
    return texts


@pytest.mark.evidence("Sections of the 3,955 real Open-i reports are found in the published numbers", how="cpu")
def test_sections_of_real_reports_are_counted_as_published(openi: list[str]) -> None:
    found = [{section.name for section in split_sections(text)} for text in openi]
    counts = Counter(name for names in found for name in names)
    assert counts == {"findings": 3425, "impression": 3921, "indication": 3865, "comparison": 3333}
    both = Counter(("findings" in names, "impression" in names) for names in found)
    assert both == {(True, True): 3419, (True, False): 6, (False, True): 502, (False, False): 28}


def test_different_texts_and_sentences_of_real_reports_are_as_many_as_published(openi: list[str]) -> None:
    texts: dict[str, list[str]] = {"findings": [], "impression": []}
    numbers: dict[str, list[int]] = {"findings": [], "impression": []}
    for text in openi:
        for section in split_sections(text):
            if section.name in texts:
                texts[section.name].append(normalised_text(text[section.start : section.end]))
                numbers[section.name].append(len(split_sentences(text, section, min_words=1)))
    assert {name: len(set(own)) for name, own in texts.items()} == {"findings": 2624, "impression": 1780}
    assert {name: max(own) for name, own in numbers.items()} == {"findings": 18, "impression": 13}
    assert {name: round(sum(own) / len(own), 1) for name, own in numbers.items()} == {
        "findings": 4.7,
        "impression": 1.7,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The nodule is 2.5 cm. No effusion.", ["The nodule is 2.5 cm.", "No effusion."]),
        ("Told to Dr. Smith at 3:04 a.m. by phone. Heart is large.", ["Told to Dr. Smith at 3:04 a.m. by phone.", "Heart is large."]),
        ("Edema vs. pneumonia is seen. Clear apices.", ["Edema vs. pneumonia is seen.", "Clear apices."]),
        ("1. Heart is large. 2. No effusion.", ["Heart is large.", "No effusion."]),
        ("The heart is\n large today.\n\nLungs are clear", ["The heart is large today.", "Lungs are clear"]),
        ("Compared to ___, there is XXXX change. XXXX. ___.", ["Compared to ___, there is XXXX change."]),
        ("Normal. Stable. No acute disease..", ["No acute disease.."]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IMPRESSION:Normal chest", {"impression": "Normal chest"}),
        ("findings: a b\nImpression: c d", {"findings": "a b", "impression": "c d"}),
        ("FINDINGS:\n IMPRESSION: B c", {"impression": "B c"}),
        ("PA AND LATERAL VIEWS: Clear lungs", {"findings": "Clear lungs"}),
        (
            "WET READ: ___ 3:04 PM\n Early edema\nFINDINGS: x y",
            {"wet_read": "___ 3:04 PM\n Early edema", "findings": "x y"},
        ),
        ("Spoken to the ward.\nIMPRESSION: x y", {"preamble": "Spoken to the ward.", "impression": "x y"}),
        ("FINDGINGS: a b\nIMPRESSON: c d", {"findings": "a b", "impression": "c d"}),
        ("CHEST, TWO VIEWS: a b\nCONCLUSION: c d", {"findings": "a b", "impression": "c d"}),
        ("ADDENDUM: later\nFINDINGS AND IMPRESSION: x y", {"addendum": "later", "findings_and_impression": "x y"}),
    ],
)
def test_headings(text: str, expected: dict[str, str]) -> None:
    assert sections(text) == expected


def test_the_last_of_a_repeated_heading_counts() -> None:
    text = "IMPRESSION: first one\nIMPRESSION: second one"
    chosen = choose_sections(split_sections(text), ("findings", "impression"))
    assert [text[section.start : section.end] for section in chosen] == ["second one"]


def test_a_preamble_or_wet_read_is_never_chosen() -> None:
    assert (
        choose_sections(split_sections("WET READ: edema is seen\nCOMPARISON: none"), ("findings", "impression")) == []
    )


def test_a_report_without_headings_is_read_whole() -> None:
    text = "Lungs are clear. No effusion."
    assert choose_sections(split_sections(text), ("findings",)) == [Section("report", 0, len(text))]


@pytest.mark.parametrize("text", ["", "No.", "XXXX is well.", "a ___ b", "One two-three four's 5", "XX x_x __x"])
def test_a_text_has_as_many_words_as_are_counted(text: str) -> None:
    assert [has_words(text, number) for number in range(1, 6)] == [count_words(text) >= n for n in range(1, 6)]
