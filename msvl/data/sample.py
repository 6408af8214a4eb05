"""What KEY.json of a shard holds, written by the packer and read by everybody else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msvl.data.config import ReportConfig
from msvl.data.reports import Section, choose_sections, count_words, plain, split_sections, split_sentences


@dataclass(frozen=True)
class SampleText:
    """The report of a sample, with its sections and sentences as offsets into the raw text."""

    report: str
    sections: tuple[Section, ...]
    sentences: tuple[tuple[str, int, int], ...]
    """(section, start, end)."""

    def chosen_sentences(self, config: ReportConfig) -> list[str]:
        """Return the sentences of the configured sections, line wraps joined; empty when there is no usable one."""
        wanted = choose_sections(self.sections, config.sections)
        chosen = []
        for section in wanted:
            for _, start, end in self.sentences:
                if section.start <= start < section.end and count_words(self.report[start:end]) >= config.min_words:
                    chosen.append(plain(self.report, start, end))
        return chosen


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
        value = json.loads(data)
    except UnicodeDecodeError as error:
        raise ValueError("its text is not UTF-8") from error
    if not isinstance(value, dict) or not isinstance(value.get("report"), str):
        raise ValueError("its JSON has no report")
    return value


def sample_text(meta: dict[str, Any]) -> SampleText:
    """Return the report part of a parsed sample."""
    sections = tuple(Section(item["name"], item["start"], item["end"]) for item in meta["sections"])
    sentences = tuple((item["section"], item["start"], item["end"]) for item in meta["sentences"])
    return SampleText(report=meta["report"], sections=sections, sentences=sentences)


def usable_sentences(meta: dict[str, Any], config: ReportConfig) -> Sequence[str]:
    """Return the sentences that training reads. Raises ValueError when the report has none."""
    sentences = sample_text(meta).chosen_sentences(config)
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
    alone = config.model_copy(update={"sections": ("impression",)})
    return sample_text(meta).chosen_sentences(alone) or sentences
