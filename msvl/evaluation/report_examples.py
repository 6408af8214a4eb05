"""The report page's pictures: grounding overlays, and radiographs with their own and their nearest reports."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from msvl.evaluation import markup
from msvl.evaluation.figures import read_json
from msvl.evaluation.run_record import RunRecord
from msvl.evaluation.tables import spoken


def grounding_section(record: RunRecord, evaluation: Mapping[str, Any]) -> str:
    """Return the overlays of an evaluation; nothing when it kept none."""
    folder, examples = _examples(record, evaluation, "grounding")
    cards = "".join(_overlay_card(folder, item) for item in examples)
    lead = "Left the truth, right the phrase's cosine map. Drawn by seed, findings in turn, not chosen by result."
    return markup.section("Where it looks", lead, f'<div class="grid wide">{cards}</div>' if cards else "")


def pairs_section(record: RunRecord, evaluation: Mapping[str, Any]) -> str:
    """Return sample pairs with their nearest reports; nothing when the evaluation kept none."""
    folder, examples = _examples(record, evaluation, "retrieval")
    cards = "".join(_pair_card(folder, item, place) for place, item in enumerate(examples, start=1))
    lead = "Cosine before each report; green is the radiograph's own text. Drawn by seed, not chosen by result."
    return markup.section("What it reads", lead, f'<div class="grid wide">{cards}</div>' if cards else "")


def _examples(record: RunRecord, evaluation: Mapping[str, Any], kind: str) -> tuple[Path, list[dict[str, Any]]]:
    folder = record.path / "evaluation" / f"{evaluation['name']}-examples"
    file = folder / "examples.json"
    return folder, read_json(file, made_by="msvl evaluate").get(kind, []) if file.is_file() else []


def _overlay_card(folder: Path, item: Mapping[str, Any]) -> str:
    left = markup.picture(folder / item["image"], f"Radiograph with the box of the phrase: {item['phrase']}")
    right = markup.picture(folder / item["heat"], f"The same under the heat map, CNR {item['cnr']:.2f}")
    tags = (spoken(item["finding"] or "finding unnamed"), f"CNR {item['cnr']:.2f}", f"IoU {item['miou']:.2f}")
    return (
        f'<article class="card"><div class="duo">{left}{right}</div>'
        f'<p class="text">&ldquo;{escape(item["phrase"])}&rdquo;</p>'
        + "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags)
        + "</article>"
    )


def _pair_card(folder: Path, item: Mapping[str, Any], place: int) -> str:
    image = markup.picture(folder / item["image"], f"Held-out radiograph {place}")
    rank = f"own report ranks {item['rank']:,} of {item['gallery']:,}"
    nearest = "".join(_near(near) for near in item["nearest"])
    return (
        f'<article class="card pair"><div>{image}<p class="quiet">{rank}</p></div><div><h3>Own report</h3>'
        f'<p class="text">{escape(item["report"])}</p><h3>Nearest reports</h3>{nearest}</div></article>'
    )


def _near(near: Mapping[str, Any]) -> str:
    kind, word = ("tag hit", " own") if near["same_text"] else ("tag", "")
    return f'<p class="text"><span class="{kind}">{near["cosine"]:.2f}{word}</span>{escape(near["report"])}</p>'
