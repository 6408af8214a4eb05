"""A page of the report's looks around any content: one file, nothing from the network."""

from __future__ import annotations

import importlib.resources
from html import escape
from pathlib import Path
from string import Template

from msvl.config.errors import DataError


def write_page(path: Path, title: str, content: str) -> None:
    """Write HTML `content` under a heading. Raises DataError when the disk does not take it."""
    template = importlib.resources.files("msvl.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    body = f'<header><h1>{escape(title)}</h1><p class="quiet">Research use, not a medical device.</p></header>{content}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template).substitute(title=escape(f"msvl {title}"), body=body), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror}): free space and repeat the command") from error
