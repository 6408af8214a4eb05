"""Samples of other people's tars, an image and a caption, as samples of ours: parsed when they are read."""

from __future__ import annotations

import json
from typing import Any

from msvl.data.identity import text_hash
from msvl.data.sample import report_fields


def read_caption(data: bytes, caption: str) -> str:
    """Return the text of a caption member.

    Args:
        data: Its bytes.
        caption: `txt`, or `json:FIELD` for a field of a JSON object.

    Raises:
        ValueError: it is not UTF-8, no JSON, or has no such text.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("its text is not UTF-8") from error
    kind, _, name = caption.partition(":")
    if kind == "json":
        value = json.loads(text)
        found = value.get(name) if isinstance(value, dict) else None
        if not isinstance(found, str):
            raise ValueError(f"its JSON has no text '{name}'")
        text = found
    if not text.strip():
        raise ValueError("its caption is empty")
    return text


def caption_meta(report: str, *, patient: str, study: str, source: str) -> dict[str, Any]:
    """Return what KEY.json of a shard of ours would hold for a report; nothing is known of view, labels and boxes."""
    return {
        "patient": patient,
        "study": study,
        "view": "unknown",
        "source": source,
        **report_fields(report),
        "labels": {},
        "boxes": [],
        "extra": {},
        "text_hash": text_hash(report),
    }
