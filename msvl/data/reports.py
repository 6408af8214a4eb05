"""Reports into sections and sentences, each traceable to offsets in the raw text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple


class Section(NamedTuple):
    """A named stretch of a report: text[start:end], heading excluded."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Sentence:
    """A sentence: text[start:end], list number excluded; `section` is its section's name."""

    section: str
    start: int
    end: int


PREAMBLE = "preamble"
"""What stands above the first heading: a wet read or an addendum there must never become a finding."""

_ALIASES: dict[str, tuple[str, ...]] = {
    "findings": ("findings", "finding", "findgings", "findngs", "report", "pa and lateral views", "chest"),
    "impression": (
        "impression",
        "impressions",
        "impresson",
        "impresion",
        "imprssion",
        "pression",
        "conclusion",
        "conclusions",
    ),
    "findings_and_impression": ("findings and impression", "findings/impression", "findings / impression"),
    "indication": ("indication", "indications", "reason for examination", "reason for exam", "clinical indication"),
    "history": ("history", "clinical history", "clinical information", "patient history"),
    "comparison": ("comparison", "comparisons", "comparison film", "comparison study"),
    "technique": ("technique", "procedure", "procedure comments"),
    "examination": ("examination", "exam", "study", "type of examination", "exam type"),
    "addendum": ("addendum",),
    "wet_read": ("wet read",),
    "notification": ("notification", "notifications", "communication"),
    "recommendation": ("recommendation", "recommendations", "recommendation(s)"),
    "final_report": ("final report",),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}

_LINE = r"(?:^|(?<=\n))[ \t]*"
_HEADING = re.compile(
    # A colon between digits is a time (`PORTABLE AP CHEST, 4:05 A.M.:`).
    _LINE + r"(?P<name>[A-Za-z](?:[A-Za-z0-9 ,/()&.\-]|(?<=\d):(?=\d\d)){2,60}?)[ \t]*:(?!\d)"
    "|" + _LINE + r"(?P<final>FINAL REPORT)[ \t\r]*(?=\n)"
    "|" + _LINE + r"(?P<rule>_{20,})[ \t\r]*(?=\n)"
)
_VIEWS = re.compile(r"\b(views?|lateral|ap|pa|portable|chest|radiographs?|film)\b")
_RULE = re.compile(r"_{5,}[ \t\r]*$", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_ABOVE_THE_REPORT = frozenset((PREAMBLE, "addendum", "wet_read", "notification"))
"""Sections that a full-width rule closes."""
_CONTENT = ("findings", "impression", "findings_and_impression", "report")
_UNNAMED = ("report", "last_paragraph", "final_report")
"""What is read where there are neither findings nor impression, in this order."""


def split_sections(text: str) -> list[Section]:
    """Split a report at its headings.

    Known headings count in any case and with or without a blank after the colon; view names (`PA AND LATERAL VIEWS:`)
    head findings; other headings count when in capitals. Text above the first heading is the preamble; a full-width rule
    closes a preamble, an addendum and a wet read. A report without any heading is one section named `report`. Where there are
    neither findings nor impression, what follows the first blank line of the last section is the `last_paragraph`. Sections
    come in order of the text; empty ones are left out.
    """
    found = list(_headings(text))
    if not found:
        return [Section("report", *_trim(text, 0, len(text)))] if text.strip() else []
    sections = []
    bounds = [(PREAMBLE, 0, found[0][1])] if text[: found[0][1]].strip() else []
    for index, (name, _, body) in enumerate(found):
        end = found[index + 1][1] if index + 1 < len(found) else len(text)
        bounds.append((name, body, end))
    for name, start, end in bounds:
        start, end = _trim(text, start, end)
        if end > start:
            sections.append(Section(name, start, end))
    return _with_last_paragraph(text, sections)


def _with_last_paragraph(text: str, sections: list[Section]) -> list[Section]:
    """Cut the text that stands under another heading, such as COMPARISON, from what belongs to it."""
    last = sections[-1] if sections else None
    if last is None or last.name in (*_ABOVE_THE_REPORT, "final_report") or any(s.name in _CONTENT for s in sections):
        return sections
    blank = _BLANK_LINE.search(text, last.start, last.end)
    if blank is None:
        return sections
    above, below = _trim(text, last.start, blank.start()), _trim(text, blank.end(), last.end)
    return [*sections[:-1], Section(last.name, *above), Section("last_paragraph", *below)]


def repeated_headings(sections: Sequence[Section]) -> bool:
    """Return whether findings or impression are there more than once, so that all but the last are passed over."""
    names = [section.name for section in sections]
    return any(names.count(name) > 1 for name in _CONTENT)


def choose_sections(sections: Sequence[Section], names: Iterable[str]) -> list[Section]:
    """Return the wanted sections in the order of `names`; of a repeated heading the last one counts (as MIMIC's tools do).

    A merged FINDINGS AND IMPRESSION stands for either. A report with none of them falls back to its text without
    headings, its last paragraph, or what stands under FINAL REPORT, never to a preamble, wet read or addendum.
    """
    last = {section.name: section for section in sections}
    chosen: list[Section] = []
    for name in names:
        section = last.get(name)
        if section is None and name in ("findings", "impression"):
            section = last.get("findings_and_impression")
        if section is not None and section not in chosen:
            chosen.append(section)
    unnamed = [last[name] for name in _UNNAMED if name in last]
    return chosen or unnamed[:1]


_ABBREVIATIONS = frozenset(
    (
        "dr", "mr", "mrs", "ms", "prof", "vs", "approx", "e.g", "i.e", "eg", "ie", "cf",
        "fig", "st", "jr", "sr", "resp", "incl", "ca", "a.m", "p.m", "am", "pm",
        "hosp", "dept", "m.d", "d.o", "r.n",
    )
)  # fmt: skip
_END = re.compile(r"[.!?]+(?=\s|$)|\n[ \t\r]*\n|\n(?=[ \t]*(?:\d{1,2}[.)]|[-*\u2022])[ \t])")
_NUMBERING = re.compile(r"\s*(?:\(?\d{1,2}[.)]|[-*\u2022])\s+")
_WORD = re.compile(r"[^\W\d_]+(?:['\-][^\W\d_]+)*")
_MARK = re.compile(r"X{3,}|_{2,}")


SENTENCE_WORDS = 2
"""Words that a sentence has at least."""


def split_sentences(text: str, section: Section, *, min_words: int = SENTENCE_WORDS) -> list[Sentence]:
    """Split a section into sentences of at least `min_words` words.

    Decimals, times, list numbers, abbreviations, hard line wraps and the de-identification marks `___` and `XXXX` do not
    end a sentence; blank lines and list items do. Marks do not count as words. Titles (`AP chest compared to ___:`),
    sentences that say who was told or what to do next, and a set's closing words are no sentences about the image: they are
    left out.
    """
    sentences = []
    start = section.start
    for end in [*_boundaries(text, section), section.end]:
        numbering = _NUMBERING.match(text, start, end)
        first, last = _trim(text, numbering.end() if numbering else start, end)
        if count_words(text[first:last]) >= min_words and not _is_beside_the_image(plain(text, first, last)):
            sentences.append(Sentence(section.name, first, last))
        start = end
    return sentences


_NOTIFICATION = re.compile(
    r"\b(?:discussed|communicated|relayed|conveyed|telephoned|phoned|paged|notified|informed)\b"
    r".*(?:\bDr\b|\bphysician|\bteam\b|\bnurse|\bphone\b|\btelephone|\bpager\b|\bat \d{1,2}:\d\d)",
    re.IGNORECASE,
)
_RECOMMENDATION = re.compile(
    r"(?:recommend\w*|suggest|advise)\b|(?:clinical correlation|further evaluation|follow.?up|repeat)\b.*"
    r"\b(?:recommended|suggested|advised|considered|warranted)\b",
    re.IGNORECASE,
)
"""At the beginning of a sentence: one that names a finding first and recommends at its end stays."""
_CLOSING = re.compile(r"this report has been anonymi[sz]ed|all dates are offset", re.IGNORECASE)
"""How reports of CheXpert Plus end."""


def _is_beside_the_image(sentence: str) -> bool:
    patterns = (_NOTIFICATION.search, _RECOMMENDATION.match, _CLOSING.match)
    return sentence.endswith(":") or any(pattern(sentence) for pattern in patterns)


def plain(text: str, start: int, end: int) -> str:
    """Return text[start:end] with line wraps and runs of blanks joined."""
    return " ".join(text[start:end].split())


def count_words(text: str) -> int:
    """Count words, de-identification marks left out."""
    return len(_WORD.findall(_MARK.sub(" ", text)))


def has_words(text: str, at_least: int) -> bool:
    """Return whether `count_words` is at least so many, without reading on."""
    unmarked = _MARK.sub(" ", text) if "XXX" in text or "__" in text else text
    return sum(1 for _ in islice(_WORD.finditer(unmarked), at_least)) == at_least


def _headings(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (canonical name, start of the heading, start of its text)."""
    current = PREAMBLE
    for match in _HEADING.finditer(text):
        if match.group("rule") and current not in _ABOVE_THE_REPORT:
            continue
        name = "final_report" if match.group("name") is None else _canonical(match.group("name"))
        if name is not None:
            current = name
            yield name, match.start(), match.end()


def _canonical(heading: str) -> str | None:
    name = " ".join(heading.lower().replace(".", " ").split())
    if name in _CANONICAL:
        return _CANONICAL[name]
    if heading != heading.upper():
        return None
    if name.startswith("addendum"):
        return "addendum"
    if name.startswith("wet read"):
        return "wet_read"
    return "findings" if _VIEWS.search(name) else name.replace(" ", "_")


def _boundaries(text: str, section: Section) -> Iterator[int]:
    start = section.start
    for match in _END.finditer(text, section.start, section.end):
        if match.group().startswith(".") and _inside_sentence(text, start, match):
            continue
        yield match.end()
        start = match.end()


def _inside_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    before = text[start : match.start()]
    last = before.split()[-1].lower().lstrip("(") if before.split() else ""
    if last in _ABBREVIATIONS:
        # "at 3:04 a.m. The" ends, "at 3:04 a.m. by phone" does not.
        follows = text[match.end() : match.end() + 3].strip()
        return not (last in {"a.m", "p.m", "am", "pm"} and (not follows or follows[0].isupper()))
    only_number = before.strip().lstrip("(").isdigit() and len(before.strip()) <= 3
    return only_number and len(match.group()) == 1


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the bounds without white space at either end and without full-width rules of underscores at the beginning."""
    while True:
        body = text[start:end]
        first = start + len(body) - len(body.lstrip())
        rule = _RULE.match(text, first, end)
        if not rule:
            return first, max(first, start + len(body.rstrip()))
        start = rule.end()
