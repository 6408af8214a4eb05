"""Pieces of HTML that the report page is made of. Every text that comes from outside is escaped here."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

from msvl.evaluation.tables import Table, word_columns

KEY = (
    '<p class="quiet">'
    '<span class="key"><svg viewBox="0 0 18 14" aria-hidden="true">'
    '<rect x="1" y="3" width="16" height="8" rx="4" class="bar"/>'
    '<circle cx="9" cy="7" r="4.5" class="dot"/></svg>trained, with its 95 % interval</span>'
    '<span class="key"><svg viewBox="0 0 18 14" aria-hidden="true"><circle cx="9" cy="7" r="4.5" class="ring"/></svg>'
    "untrained twin</span>"
    '<span class="key"><svg viewBox="0 0 18 14" aria-hidden="true">'
    '<line x1="9" x2="9" y1="0" y2="14" class="chance"/></svg>'
    "chance</span></p>"
)


def table(content: Table, caption: str) -> str:
    """Return a table; the first cell of a row is its heading, in bold where it stands between `**`."""
    words = ['class="words"' if left else "" for left in word_columns(content)]
    head = "".join(f'<th scope="col" {kind}>{escape(cell)}</th>' for cell, kind in zip(content.columns, words, strict=True))  # fmt: skip
    rows = "".join(
        f'<tr><th scope="row">{_heading(row[0])}</th>'
        + "".join(f"<td {kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], words[1:], strict=True))
        + "</tr>"
        for row in content.rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _heading(cell: str) -> str:
    return f"<strong>{escape(cell.strip('*'))}</strong>" if cell.startswith("**") else escape(cell)


def prose(text: str) -> str:
    """Return a sentence with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def picture(path: Path, alt: str) -> str:
    """Return a PNG as an image that is part of the page."""
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img src="data:image/png;base64,{encoded}" alt="{escape(alt)}" loading="lazy">'


def section(title: str, lead: str, content: str) -> str:
    """Return a section with its heading and one sentence of explanation; nothing when it has no content."""
    if not content:
        return ""
    opening = f'<p class="quiet">{escape(lead)}</p>' if lead else ""
    return f"<section><h2>{escape(title)}</h2>{opening}{content}</section>"


def folded(title: str, content: str) -> str:
    """Return a part of the page that is closed at first."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def notes(lines: list[str]) -> str:
    """Return a list of sentences."""
    return '<ul class="notes">' + "".join(f"<li>{prose(line)}</li>" for line in lines) + "</ul>"


def badges(lines: list[str]) -> str:
    """Return short facts in a row."""
    return '<ul class="badges">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
