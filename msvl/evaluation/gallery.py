"""Where the model errs most: pictures with boxes and heat maps, in the run folder and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from msvl.data.images import decode_image
from msvl.data.reader import SampleReader
from msvl.evaluation import markup
from msvl.evaluation.answers import Answer
from msvl.evaluation.exam import Exam
from msvl.evaluation.finding_maps import finding_maps
from msvl.evaluation.maps import upsample
from msvl.evaluation.paper_page import write_page
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks.grounding import placed_map
from msvl.evaluation.published_prompts import card_prompts
from msvl.evaluation.recipes import ZeroShotRecipe
from msvl.evaluation.render import LARGEST_SIDE, overlay, radiograph
from msvl.evaluation.tables import spoken

HEAT_MAPS = (
    "Heat maps: how much nearer a patch is to the positive prompts of the finding than to its negative ones, by the encoder as it was "
    "judged, before any fine-tuning. Boxes: where the finding is said to be."
)
FALLBACK = ZeroShotRecipe(prompts="maco")
"""Prompts of the heat maps where zero-shot classification was not judged."""
NOTICE = "Chosen by result: the worst errors, not a sample. Keep this folder where the data may be kept."


def write_gallery(
    folder: Path, exam: Exam, cards: Mapping[str, Card], answers: Mapping[str, Answer], *, count: int
) -> Path | None:
    """Write PNGs and index.html of the `count` worst errors of each kind; None when there is nothing to show.

    Args:
        folder: Made here, in the run folder.
        exam: The exam.
        cards: By task.
        answers: By task, with columns.
        count: Pictures per kind; 0 writes none.
    """
    parts = []
    if count:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        recipe = next((card.zero_shot for card in cards.values() if card.zero_shot is not None), FALLBACK)
        for task, answer in answers.items():
            if answer.classified is not None:
                parts += _misclassified(folder, exam, task, answer, recipe, count)
        if "grounding" in answers and "miou" in answers["grounding"].columns:
            parts.append(_misplaced(folder, exam, cards["grounding"], answers["grounding"], count))
    content = "".join(part for part in parts if part)
    if not content:
        return None
    page = folder / "index.html"
    write_page(page, "Errors", f'<p class="notice">{escape(NOTICE)}</p>{content}')
    return page


def _misclassified(
    folder: Path, exam: Exam, task: str, answer: Answer, recipe: ZeroShotRecipe, count: int
) -> list[str]:
    """Return one section per kind of error: sure and wrong."""
    assert answer.classified is not None
    test, sections = exam.splits.test, []
    for wanted, title in ((1, "overlooked"), (0, "seen where there is nothing")):
        wrong: list[tuple[float, str, int]] = []
        for name, scores in answer.classified.scores.items():
            probabilities = answer.classified.platt[name](scores)
            for row in np.flatnonzero(test.labels[name] == wanted).tolist():
                error = 1 - probabilities[row] if wanted else probabilities[row]
                if error > 0.5:
                    wrong.append((float(error), name, row))
        worst = sorted(wrong, key=lambda item: (-item[0], item[1:]))[:count]
        heats, cards = _heats(exam, recipe, list(answer.classified.scores), worst), []
        for place, ((error, name, row), heat) in enumerate(zip(worst, heats, strict=True)):
            file = folder / f"{task}-{'missed' if wanted else 'alarm'}-{place:02d}.png"
            own = [(box.x, box.y, box.w, box.h) for box in test.boxes[row] if box.finding == name]
            image = _plane(exam, row)
            file.write_bytes(radiograph(image, own) if heat is None else overlay(image, heat, own))
            said = f"{spoken(name)}: probability {1 - error if wanted else error:.2f}"
            cards.append(_card(markup.picture(file, said), said))
        lead = HEAT_MAPS if any(heat is not None for heat in heats) else ""
        sections.append(_section(f"{spoken(task)}: {title}", cards, lead))
    return sections


def _heats(
    exam: Exam, recipe: ZeroShotRecipe, findings: list[str], worst: Sequence[tuple[float, str, int]]
) -> Sequence[NDArray[np.float32] | None]:
    """Return a map of the model's square per error; None without patches in the space of texts, or prompts."""
    if not exam.places_text:
        return [None] * len(worst)
    wanted = [(exam.splits.test.images[row], name) for _, name, row in worst]
    prompts = card_prompts(recipe.prompts, findings, exam.packed.path, recipe.names)
    maps = finding_maps(exam.model, exam.tokeniser, prompts, wanted, batch_size=exam.batch_size)
    side = exam.model.config.image_size
    return [None if own is None else upsample(own[None], (side, side))[0].numpy() for own in maps]


def _misplaced(folder: Path, exam: Exam, card: Card, answer: Answer, count: int) -> str:
    """Return the section of phrases that were looked for in the wrong place, at the resolution that they were judged at."""
    assert card.grounding is not None
    column = answer.columns["miou"]
    place_of = {f"{exam.splits.test.keys[pair.row]} {pair.phrase}": number for number, pair in enumerate(exam.pairs)}
    maps, inside, cards = torch.from_numpy(answer.maps["pair_maps"]), exam.square_pairs(), []
    whole = card.grounding.resolution == "image"
    reader = SampleReader(exam.packed.split("test"))
    for place, worst in enumerate(np.argsort(column.values, kind="stable")[:count].tolist()):
        number = place_of[column.keys[worst]]
        pair = exam.pairs[number]
        heat, _ = placed_map(exam, maps[number], pair, inside[number], card.grounding)
        image, boxes = _plane(exam, pair.row), inside[number].boxes
        if whole:
            image, boxes = decode_image(reader.image(exam.splits.test.numbers[pair.row])), pair.boxes
        file = folder / f"grounding-{place:02d}.png"
        file.write_bytes(overlay(image, heat[0].numpy(), boxes, side=min(LARGEST_SIDE, max(heat.shape))))
        said = f"{pair.phrase} (IoU {column.values[worst]:.2f})"
        cards.append(_card(markup.picture(file, f"Heat map, IoU {column.values[worst]:.2f}"), said))
    reader.close()
    return _section("grounding: looked elsewhere", cards)


def _card(picture: str, text: str) -> str:
    return f'<article class="card">{picture}<p class="text">{escape(text)}</p></article>'


def _section(title: str, cards: list[str], lead: str = "") -> str:
    return markup.section(title, lead, f'<div class="grid">{"".join(cards)}</div>' if cards else "")


def _plane(exam: Exam, row: int) -> np.ndarray:
    return rearrange(exam.splits.test.images[row].numpy(), "1 h w -> h w")
