"""The phantom's reports: disjoint wordings over one vocabulary, and nothing left unsaid."""

from __future__ import annotations

import re

import numpy as np
import pytest

from msvl.data.phantom.findings import SEVERITIES, ZONES, Finding
from msvl.data.phantom.grammar import NOUNS
from msvl.data.phantom.parameters import FINDINGS
from msvl.data.phantom.prose import GRAMMARS, PROMPTS, phrase, report

REPORTS = 6000


def some_findings(rng: np.random.Generator) -> list[Finding]:
    """Draw findings with all their words, without drawing a picture."""
    found = []
    for name in FINDINGS:
        if rng.uniform() > 0.21:
            continue
        side = "" if name == "cardiomegaly" else ("left", "right")[rng.integers(2)]
        zone = ZONES[rng.integers(3)] if name in ("consolidation", "nodule") else ""
        severity = SEVERITIES[2 * rng.integers(2) if name == "nodule" else rng.integers(3)]
        found.append(Finding(name, side, zone, severity, size_cm=round(float(rng.uniform(1.8, 2.6)), 1)))
        if name == "effusion" and rng.uniform() < 0.25:
            found.append(Finding(name, "left" if side == "right" else "right", "", severity))
    return found[:4]


def sentences(text: str) -> list[str]:
    """Split a report into normalised sentences, without headings and list numbers."""
    found = []
    for block in re.split(r"(?:FINDINGS|IMPRESSION):|\n(?=\d\. )", text):
        block = re.sub(r"^\s*\d\. ", "", re.sub(r"\s+", " ", block)).strip()
        found += [normalised(sentence) for sentence in re.split(r"(?<=\.)\s+", block) if sentence]
    return found


def normalised(text: str) -> str:
    """Lower-case, without punctuation."""
    return re.sub(r"[^a-z0-9 ]", "", text.lower()).strip()


def written(count: int, *, held_out: bool, seed: int, style: str = "standard") -> list[tuple[list[Finding], str]]:
    """Write reports about random findings."""
    rng = np.random.Generator(np.random.PCG64(seed))
    pairs = []
    for _ in range(count):
        found = some_findings(rng)
        pairs.append((found, report(rng, found, held_out, style=style)))
    return pairs


@pytest.fixture(scope="module")
def training() -> set[str]:
    """All sentences of many training reports."""
    return {sentence for _, text in written(REPORTS, held_out=False, seed=0) for sentence in sentences(text)}


@pytest.fixture(scope="module")
def held_out() -> set[str]:
    """All sentences of held-out reports, all prompts and all phrases of boxes."""
    rng = np.random.Generator(np.random.PCG64(2))
    texts = {sentence for _, text in written(1500, held_out=True, seed=1) for sentence in sentences(text)}
    texts |= {normalised(text) for sides in PROMPTS.values() for prompts in sides.values() for text in prompts}
    for _ in range(400):
        texts |= {normalised(phrase(rng, finding)) for finding in some_findings(rng)}
    return texts


@pytest.mark.evidence(
    "Prompts, grounding phrases and held-out reports of the phantom use wordings of no training report", how="cpu"
)
def test_no_held_out_wording_occurs_in_a_training_report(training: set[str], held_out: set[str]) -> None:
    assert len(training) > 1000
    assert not training & held_out


def test_held_out_wordings_use_only_words_of_training_reports(training: set[str], held_out: set[str]) -> None:
    known = {word for sentence in training for word in sentence.split()}
    assert not {word for sentence in held_out for word in sentence.split()} - known


def test_the_shifted_style_shares_words_but_no_sentences(training: set[str], held_out: set[str]) -> None:
    shifted = {
        text
        for _, report_text in written(600, held_out=False, seed=3, style="shifted")
        for text in sentences(report_text)
    }
    known = {word for sentence in training for word in sentence.split()}
    assert not {word for sentence in shifted for word in sentence.split()} - known
    assert not shifted & (training | held_out)


@pytest.mark.parametrize("is_held_out", [False, True])
def test_reports_have_both_headings_and_two_to_seven_sentences(is_held_out: bool) -> None:
    for _, text in written(500, held_out=is_held_out, seed=4):
        assert text.startswith("FINDINGS:") and "\n\nIMPRESSION:" in text
        assert 2 <= len(sentences(text)) <= 7


DENIED = {
    "effusion": "effusion|fluid|costophrenic|pleural spaces",
    "pneumothorax": "pneumothorax|pleural line|air in the pleural|expanded|markings",
    "consolidation": "consolidation|airspace|pneumonia|opacity|lungs are .*clear|are clear",
    "cardiomegaly": "cardiomegaly|enlarge|heart|cardiac|cardiothoracic",
    "nodule": "nodule|round opacity|opacity|lungs are .*clear|are clear",
}
DENIALS = r"^(no |normal|both|heart|cardiac|lung)|\b(no|not|free|clear|normal|sharp)\b"


@pytest.mark.parametrize("is_held_out", [False, True])
def test_every_absent_finding_is_denied(is_held_out: bool) -> None:
    for found, text in written(500, held_out=is_held_out, seed=5):
        stated = sentences(text.split("IMPRESSION")[0])
        for name in set(FINDINGS) - {finding.name for finding in found}:
            assert any(re.search(DENIED[name], item) and re.search(DENIALS, item) for item in stated), (name, text)


def test_no_present_finding_is_denied_by_name() -> None:
    for found, text in written(500, held_out=False, seed=6):
        denials = [item for item in sentences(text) if re.match(r"(no|there is no) ", item) and "markings" not in item]
        for finding in found:
            assert not any(noun in item for noun in NOUNS[finding.name] for item in denials), text


def test_phrases_name_side_and_zone() -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    for _ in range(50):
        words = phrase(rng, Finding("nodule", "left", "upper", "large", size_cm=2.2))
        assert "left" in words and "upper" in words
        assert "right" in phrase(rng, Finding("effusion", "right", "", "small"), held_out=False)


def test_prompts_have_several_of_each_kind_for_every_finding() -> None:
    assert list(PROMPTS) == list(FINDINGS)
    for sides in PROMPTS.values():
        assert len(set(sides["positive"])) >= 5
        assert len(set(sides["negative"])) >= 5


def test_training_has_enough_frames() -> None:
    for wordings in GRAMMARS["training"].findings.values():
        assert len(set(wordings.positive)) >= 12
        assert len(set(wordings.negative)) >= 8


def test_bilateral_effusions_name_both_sides() -> None:
    pair = [Finding("effusion", "left", "", "small"), Finding("effusion", "right", "", "large")]
    rng = np.random.Generator(np.random.PCG64(8))
    for is_held_out in (False, True):
        for _ in range(30):
            text = report(rng, pair, is_held_out).lower()
            assert re.search(r"bilateral|both|left.*right|right.*left", text, re.DOTALL)
