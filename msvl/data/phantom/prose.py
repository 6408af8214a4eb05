"""From findings to words: reports with headings, phrases for boxes, and prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from msvl.data.phantom.findings import Finding
from msvl.data.phantom.grammar import HEART_ADVERB, HEART_SEVERITY, NOUNS, SEVERITY, Grammar
from msvl.data.phantom.held_out_wordings import HELD_OUT
from msvl.data.phantom.parameters import FINDINGS
from msvl.data.phantom.shifted_wordings import SHIFTED
from msvl.data.phantom.training_wordings import TRAINING

GRAMMARS = {"training": TRAINING, "held_out": HELD_OUT, "shifted": SHIFTED}
"""Name -> grammar."""

MIDDLE_WORDS = ("middle", "mid")
MOST_FINDINGS_SENTENCES = 5
WRAP_COLUMNS = 64
SHARES = {"other": 0.35, "list": 0.75, "clear": 0.45, "numbered": 0.3, "wrapped": 0.25}
"""How often a report has a sentence on normal structures, a negated list, a sentence that the lungs are clear, a numbered
impression, and hard line ends."""


def report(rng: np.random.Generator, findings: Sequence[Finding], held_out: bool, *, style: str = "standard") -> str:
    """Write a report: FINDINGS states what is there and denies what is not, IMPRESSION sums up.

    Args:
        rng: Chooses the words.
        findings: What the study shows; effusions of both sides are two findings.
        held_out: Write with the wordings that no training report contains.
        style: `standard` or `shifted`, which has one grammar for all splits.
    """
    grammar = GRAMMARS["shifted" if style == "shifted" else "held_out" if held_out else "training"]
    body = _findings_sentences(rng, grammar, findings)
    closing = _impression(rng, grammar, findings)
    blocks = [_flow(rng, "FINDINGS:", body), _flow(rng, "IMPRESSION:", closing)]
    return "\n\n".join(blocks) + "\n"


def phrase(rng: np.random.Generator, finding: Finding, *, held_out: bool = True, style: str = "standard") -> str:
    """Return a noun phrase for one finding that says where it is."""
    grammar = GRAMMARS["shifted" if style == "shifted" else "held_out" if held_out else "training"]
    return _fill(rng, _pick(rng, grammar.findings[finding.name].phrases), finding)


def spoken(rng: np.random.Generator, finding: Finding, *, grammar: Grammar) -> str:
    """Return one sentence of a grammar about a finding that is there."""
    return _sentence(_fill(rng, _pick(rng, grammar.findings[finding.name].positive), finding))


def _findings_sentences(rng: np.random.Generator, grammar: Grammar, findings: Sequence[Finding]) -> list[str]:
    fluids = [finding for finding in findings if finding.name == "effusion"]
    sentences = []
    if len(fluids) == 2:
        sides = {f"on_{finding.side}": SEVERITY[finding.severity] for finding in fluids}
        sentences.append(_sentence(_pick(rng, grammar.bilateral).format(**sides)))
        findings = [finding for finding in findings if finding.name != "effusion"]
    sentences += [spoken(rng, finding, grammar=grammar) for finding in findings]
    absent = [name for name in FINDINGS if name not in {finding.name for finding in [*findings, *fluids]}]
    room = MOST_FINDINGS_SENTENCES - len(sentences)
    negations = _negations(rng, grammar, absent, room=room)
    if len(negations) < room and rng.uniform() < SHARES["other"]:
        negations.append(_pick(rng, grammar.others))
    if rng.uniform() < 0.3:
        return [*negations, *sentences]
    return [*sentences, *negations]


def _negations(rng: np.random.Generator, grammar: Grammar, absent: Sequence[str], *, room: int) -> list[str]:
    """Deny every absent finding in at most `room` sentences."""
    left = [absent[index] for index in rng.permutation(len(absent))]
    sentences: list[str] = []
    if {"consolidation", "nodule"} <= set(left) and rng.uniform() < SHARES["clear"]:
        sentences.append(_pick(rng, grammar.clear))
        left = [name for name in left if name not in ("consolidation", "nodule")]
    while left:
        # A long list is the only way out when sentences run short.
        last = len(sentences) >= room - 1
        count = len(left) if last else int(rng.integers(2, 4)) if rng.uniform() < SHARES["list"] else 1
        group, left = left[:count], left[count:]
        if len(group) == 1:
            sentences.append(_sentence(_pick(rng, grammar.findings[group[0]].negative)))
        else:
            names = [_pick(rng, NOUNS[name]) for name in group]
            sentences.append(_sentence(_pick(rng, grammar.lists).format(list=_joined(names, "or"))))
    return sentences


def _impression(rng: np.random.Generator, grammar: Grammar, findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return [_pick(rng, grammar.normal)]
    parts = [_fill(rng, _pick(rng, grammar.findings[item.name].phrases), item) for item in findings]
    if len(parts) == 2 and rng.uniform() < SHARES["numbered"]:
        return [f"{number}. {_sentence(part)}." for number, part in enumerate(parts, start=1)]
    return [_sentence(_pick(rng, grammar.summaries).format(list=_joined(parts, "and")))]


def _flow(rng: np.random.Generator, heading: str, sentences: list[str]) -> str:
    """Put sentences under a heading: on its line or below it, sometimes with hard line ends."""
    numbered = sentences[0].startswith("1. ")
    text = ("\n" if numbered else " ").join(sentences)
    text = heading + ("\n" if numbered or rng.uniform() < 0.5 else " ") + text
    if not numbered and rng.uniform() < SHARES["wrapped"]:
        text = "\n".join(textwrap.fill(line, WRAP_COLUMNS) for line in text.split("\n"))
    return text


def _fill(rng: np.random.Generator, frame: str, finding: Finding) -> str:
    heart = finding.name == "cardiomegaly"
    zone = _pick(rng, MIDDLE_WORDS) if finding.zone == "middle" else finding.zone
    return frame.format(
        side=finding.side,
        zone=zone,
        severity=(HEART_SEVERITY if heart else SEVERITY)[finding.severity],
        severely=HEART_ADVERB[finding.severity],
        size=f"{finding.size_cm:.1f}",
        noun=_pick(rng, NOUNS[finding.name]),
    )


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _joined(parts: Sequence[str], word: str) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def held_out_prompts() -> dict[str, dict[str, list[str]]]:
    """Return the ensemble of prompts per finding: held-out sentences over all sides and zones, and held-out denials."""
    prompts = {}
    for name in FINDINGS:
        rng = np.random.Generator(np.random.PCG64(0))
        sides = ("",) if name == "cardiomegaly" else ("right", "left")
        zones = ("upper", "middle", "lower") if name in ("consolidation", "nodule") else ("",)
        positive = []
        for place, (side, zone) in enumerate((side, zone) for zone in zones for side in sides):
            frames = HELD_OUT.findings[name].positive
            for offset in range(len(frames) // len(zones) if side else len(frames)):
                severity = ("small" if name == "nodule" else "moderate", "large")[(place + offset) % 2]
                finding = Finding(name, side, zone, severity, size_cm=2.0)
                positive.append(_sentence(_fill(rng, frames[(place + offset * len(zones)) % len(frames)], finding)))
        prompts[name] = {"positive": positive, "negative": list(HELD_OUT.findings[name].negative)}
    return prompts


PROMPTS = held_out_prompts()
"""Finding -> {"positive": [...], "negative": [...]}, in held-out wordings: what `msvl data pack` writes to prompts.json."""
