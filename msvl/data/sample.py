"""What KEY.json of a shard holds, written by the packer and read by everybody else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msvl.data.config import ReportConfig
from msvl.data.reports import (
    SENTENCE_WORDS,
    Section,
    choose_sections,
    has_words,
    plain,
    split_sections,
    split_sentences,
)


def report_fields(report: str) -> dict[str, Any]:
    """Return the part of KEY.json that is derived from a report: the text, its sections and sentences as offsets."""
    sections = split_sections(report)
    return {
        "report": report,
        "sections": [{"name": item.name, "start": item.start, "end": item.end} for item in sections],
        "sentences": [
            {"section": item.section, "start": item.start, "end": item.end}
            for section in sections
            for item in split_sentences(report, section)
        ],
    }


def parse_sample(data: bytes) -> dict[str, Any]:
    """Parse KEY.json. Raises ValueError when it is not what the packer writes."""
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ValueError("its text is not UTF-8") from error
    if not isinstance(value, dict) or not isinstance(value.get("report"), str):
        raise ValueError("its JSON has no report")
    return value


def sections_of(meta: dict[str, Any]) -> list[Section]:
    """Return the sections of a parsed sample's report."""
    return [Section(item["name"], item["start"], item["end"]) for item in meta["sections"]]


def chosen_sentences(meta: dict[str, Any], names: Sequence[str], min_words: int) -> list[str]:
    """Return the sentences of the wanted sections, line wraps joined; empty when there is no usable one."""
    report = meta["report"]
    chosen, all_spans = [], [(item["start"], item["end"]) for item in meta["sentences"]]
    for section in choose_sections(sections_of(meta), names):
        spans = [(start, end) for start, end in all_spans if section.start <= start < section.end]
        if min_words > SENTENCE_WORDS:  # else all are long enough: the packer split them so
            spans = [(start, end) for start, end in spans if has_words(report[start:end], min_words)]
        chosen += [plain(report, start, end) for start, end in spans]
    return chosen


def usable_sentences(meta: dict[str, Any], config: ReportConfig) -> Sequence[str]:
    """Return the sentences that training reads. Raises ValueError when the report has none."""
    sentences = chosen_sentences(meta, config.sections, config.min_words)
    if not sentences:
        raise ValueError(f"its report has no sentence of {config.min_words} words in {' or '.join(config.sections)}")
    return sentences


def read_sentences(meta: dict[str, Any], config: ReportConfig, *, impression: bool) -> Sequence[str]:
    """Return `usable_sentences`, or with `impression` those of the impression alone where there is one.

    Raises:
        ValueError: The report has none.
    """
    sentences = usable_sentences(meta, config)
    if not impression:
        return sentences
    return chosen_sentences(meta, ("impression",), config.min_words) or sentences
