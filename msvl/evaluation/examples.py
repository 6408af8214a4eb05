"""Examples for the report page, drawn by seed, not by result: grounding overlays, pairs with their nearest reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from msvl.config.private import private_folder
from msvl.evaluation.figures import write_json
from msvl.evaluation.maps import box_masks, contrast_to_noise, mean_iou, upsample
from msvl.evaluation.material import Material
from msvl.evaluation.render import overlay, radiograph
from msvl.evaluation.tasks.retrieval import first_of_each

NEAREST = 3
"""Different reports shown per radiograph."""


def write_examples(
    folder: Path, material: Material, reports: Sequence[str], *, count: int, seed: int, sigma: float
) -> None:
    """Write PNGs and `examples.json` into `folder`.

    Args:
        folder: Made here.
        material: Judged images, with pair maps and report embeddings where those tasks ran.
        reports: Text of each image's report.
        count: Examples of either kind.
        seed: Decides which.
        sigma: Smoothing of the maps, as in the grounding task.
    """
    private_folder(folder)
    for old in folder.glob("*.png"):
        old.unlink()
    generator = np.random.default_rng(seed)
    write_json(
        folder / "examples.json",
        {
            "grounding": _grounding(folder, material, generator, count=count, sigma=sigma),
            "retrieval": _retrieval(folder, material, reports, generator, count=count),
        },
    )


def _grounding(
    folder: Path, material: Material, generator: np.random.Generator, *, count: int, sigma: float
) -> list[dict[str, Any]]:
    examples: list[dict[str, Any]] = []
    size = (material.images.shape[-2], material.images.shape[-1])
    for place in _one_finding_after_another(material, generator)[:count]:
        pair = material.pairs[place]
        maps = upsample(material.encoded.pair_maps[place : place + 1], size, sigma=sigma)
        masks = box_masks([list(pair.boxes)], size)
        image = _plane(material, pair.row)
        name = f"grounding-{len(examples):02d}"
        (folder / f"{name}.png").write_bytes(radiograph(image, pair.boxes))
        (folder / f"{name}-heat.png").write_bytes(overlay(image, maps[0].numpy(), pair.boxes))
        examples.append({
            "image": f"{name}.png",
            "heat": f"{name}-heat.png",
            "phrase": pair.phrase,
            "finding": pair.finding,
            "cnr": float(contrast_to_noise(maps, masks)),
            "miou": float(mean_iou(maps, masks)),
        })  # fmt: skip
    return examples


def _one_finding_after_another(material: Material, generator: np.random.Generator) -> list[int]:
    """Return places of pairs in random order, the findings taking turns so that the rare ones are seen too."""
    groups: dict[str, list[int]] = {}
    for place in generator.permutation(len(material.pairs)):
        groups.setdefault(material.pairs[place].finding, []).append(int(place))
    turns = max((len(group) for group in groups.values()), default=0)
    return [groups[name][turn] for turn in range(turns) for name in sorted(groups) if turn < len(groups[name])]


def _retrieval(
    folder: Path, material: Material, reports: Sequence[str], generator: np.random.Generator, *, count: int
) -> list[dict[str, Any]]:
    if material.reports is None:
        return []
    rows = first_of_each(material.studies)
    gallery = material.reports[rows]
    examples: list[dict[str, Any]] = []
    for row in generator.permutation(rows)[:count]:
        similarity = gallery @ material.encoded.image[row]
        own = similarity[int(np.flatnonzero(rows == row)[0])]
        name = f"pair-{len(examples):02d}.png"
        (folder / name).write_bytes(radiograph(_plane(material, int(row))))
        nearest = [
            {
                "report": reports[rows[place]],
                "cosine": float(similarity[place]),
                "same_text": material.texts[rows[place]] == material.texts[row],
            }
            for place in _nearest_texts(similarity, [material.texts[other] for other in rows])
        ]
        rank = 1 + int((similarity > own).sum())
        examples.append({"image": name, "report": reports[row], "rank": rank, "gallery": len(rows), "nearest": nearest})
    return examples


def _nearest_texts(similarity: torch.Tensor, texts: list[str]) -> list[int]:
    """Return the places of the nearest reports, each text once."""
    first_places: dict[str, int] = {}
    for place in similarity.argsort(descending=True).tolist():
        first_places.setdefault(texts[place], place)
        if len(first_places) == NEAREST:
            break
    return list(first_places.values())


def _plane(material: Material, row: int) -> np.ndarray:
    return rearrange(material.images[row].numpy(), "1 h w -> h w")
