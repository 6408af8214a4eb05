"""Zero-shot prompts: a positive and a negative ensemble per finding, from a file, a packed set or MaCo's template."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from msvl.config.errors import DataError

PACKED_FILE = "prompts.json"
"""Name inside a packed set, written by `msvl data pack` for sources that bring prompts."""

TEMPLATE_POSITIVE = ("There is {}.",)
TEMPLATE_NEGATIVE = ("There is no {}.", "No {}.", "No evidence of {}.")
"""MaCo's (`ZeroShot/utils/prompts.py`), without its 'lung is clear', which is about no finding in particular."""


@dataclass(frozen=True)
class FindingPrompts:
    """The two sides of one finding; each has at least one prompt."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True)
class PromptSet:
    """Prompts of several findings and where they came from."""

    findings: dict[str, FindingPrompts]
    origin: str

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits over all prompts, to be printed beside every figure made with them."""
        content = {name: [list(item.positive), list(item.negative)] for name, item in sorted(self.findings.items())}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def choose_prompts(findings: list[str], *, packed_folder: Path | None = None, file: Path | None = None) -> PromptSet:
    """Return the prompts for these findings: from `file` if given, else the packed set's own, else MaCo's template.

    Findings that the chosen file has no prompts for are left out.

    Raises:
        DataError: The file is missing or malformed, or holds none of the findings.
    """
    packed_file = packed_folder / PACKED_FILE if packed_folder is not None else None
    path = file or (packed_file if packed_file is not None and packed_file.is_file() else None)
    if path is None:
        return PromptSet({name: _template(name) for name in findings}, origin="template")
    loaded = read_prompts(path)
    common = {name: loaded[name] for name in findings if name in loaded}
    if findings and not common:
        raise DataError(
            f"{path} has prompts for {_listed(loaded)} but the evaluated split has labels for {_listed(findings)}: "
            "add these findings to the file or pass another one with --prompts"
        )
    return PromptSet(common, origin=str(path))


def read_prompts(path: Path) -> dict[str, FindingPrompts]:
    """Read a YAML or JSON file of the form {finding: {positive: [...], negative: [...]}}.

    Raises:
        DataError: Names the file and the finding that is wrong.
    """
    if not path.is_file():
        raise DataError(
            f"there is no prompt file {path}: pass a YAML of {{finding: {{positive: [...], negative: [...]}}}}"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not readable as YAML or JSON ({str(error).splitlines()[0]}): correct the file"
        ) from error
    if not isinstance(content, dict) or not content:
        raise DataError(
            f"{path} must map findings to {{positive: [...], negative: [...]}}, found {type(content).__name__}"
        )
    return {str(name): _finding(path, str(name), entry) for name, entry in content.items()}


def _finding(path: Path, name: str, entry: Any) -> FindingPrompts:
    sides = []
    for side in ("positive", "negative"):
        prompts = entry.get(side) if isinstance(entry, dict) else None
        if (
            not isinstance(prompts, list)
            or not prompts
            or not all(isinstance(item, str) and item.strip() for item in prompts)
        ):
            raise DataError(f"{path}: finding {name!r} needs a list of at least one prompt under {side!r}")
        sides.append(tuple(prompts))
    return FindingPrompts(positive=sides[0], negative=sides[1])


def _template(finding: str) -> FindingPrompts:
    words = finding.replace("_", " ").lower()
    return FindingPrompts(
        positive=tuple(text.format(words) for text in TEMPLATE_POSITIVE),
        negative=tuple(text.format(words) for text in TEMPLATE_NEGATIVE),
    )


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
