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

_HEADING = re.compile(
    r"(?:^|(?<=\n))[ \t]*(?P<name>[A-Za-z][A-Za-z0-9 ,/()&.\-]{2,60}?)[ \t]*:(?!\d)|(?:^|(?<=\n))[ \t]*(?P<final>FINAL REPORT)[ \t]*(?=\n)"
)
_VIEWS = re.compile(r"\b(views?|lateral|ap|pa|portable|chest|radiographs?|film)\b")
_RULE = re.compile(r"^[ \t]*_{5,}[ \t]*$", re.MULTILINE)


def split_sections(text: str) -> list[Section]:
    """Split a report at its headings.

    Known headings count in any case and with or without a blank after the colon; view names (`PA AND LATERAL VIEWS:`)
    head findings; other headings count when in capitals. Text above the first heading is the preamble; a report without
    any heading is one section named `report`. Sections come in order of the text; empty ones are left out.
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
    return sections


def choose_sections(sections: Sequence[Section], names: Iterable[str]) -> list[Section]:
    """Return the wanted sections in the order of `names`; of a repeated heading the last one counts (as MIMIC's tools do).

    A merged FINDINGS AND IMPRESSION stands for either. A report with none of them falls back to its text without
    headings, or to its last unnamed paragraph, never to a preamble, wet read or addendum.
    """
    last = {section.name: section for section in sections}
    chosen: list[Section] = []
    for name in names:
        section = last.get(name)
        if section is None and name in ("findings", "impression"):
            section = last.get("findings_and_impression")
        if section is not None and section not in chosen:
            chosen.append(section)
    if not chosen and "report" in last:
        chosen = [last["report"]]
    return chosen


_ABBREVIATIONS = frozenset(
    (
        "dr", "mr", "mrs", "ms", "prof", "vs", "approx", "e.g", "i.e", "eg", "ie", "cf",
        "fig", "st", "jr", "sr", "resp", "incl", "ca", "a.m", "p.m", "am", "pm",
        "hosp", "dept", "m.d", "d.o", "r.n",
    )
)  # fmt: skip
_END = re.compile(r"[.!?]+(?=\s|$)|\n[ \t]*\n|\n(?=[ \t]*(?:\d{1,2}[.)]|[-*\u2022])[ \t])")
_NUMBERING = re.compile(r"\s*(?:\(?\d{1,2}[.)]|[-*\u2022])\s+")
_WORD = re.compile(r"[^\W\d_]+(?:['\-][^\W\d_]+)*")
_MARK = re.compile(r"X{3,}|_{2,}")


SENTENCE_WORDS = 2
"""Words that a sentence has at least."""


def split_sentences(text: str, section: Section, *, min_words: int = SENTENCE_WORDS) -> list[Sentence]:
    """Split a section into sentences of at least `min_words` words.

    Decimals, times, list numbers, abbreviations, hard line wraps and the de-identification marks `___` and `XXXX` do not
    end a sentence; blank lines and list items do. Marks do not count as words.
    """
    sentences = []
    start = section.start
    for end in [*_boundaries(text, section), section.end]:
        numbering = _NUMBERING.match(text, start, end)
        first, last = _trim(text, numbering.end() if numbering else start, end)
        if count_words(text[first:last]) >= min_words:
            sentences.append(Sentence(section.name, first, last))
        start = end
    return sentences


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
    for match in _HEADING.finditer(text):
        if match.group("final"):
            yield "final_report", match.start(), match.end()
            continue
        name = _canonical(match.group("name"))
        if name is not None:
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
    body = text[start:end]
    rule = _RULE.match(body)
    if rule:  # a full-width rule of underscores under a heading
        return _trim(text, start + rule.end(), end)
    left = len(body) - len(body.lstrip())
    return start + left, start + max(left, len(body.rstrip()))
