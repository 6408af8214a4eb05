"""What is in a packed set: counts, report lengths, duplicates, and a contact sheet to look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from msvl.data.images import decode_jpeg, shrink
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.reader import SampleReader
from msvl.data.reports import count_words

TILES, TILE = 24, 160
LENGTHS = (0, 10, 20, 40, 60, 80, 120, 200)


def describe(path: Path) -> dict[str, Any]:
    """Return figures per split and write contact-sheet.png of the first samples beside the manifest."""
    packed = PackedSet.open(path)
    splits = {}
    for split in SPLITS:
        if not packed.counts(split)["samples"]:
            continue
        reader = SampleReader(packed.split(split))
        metas = [reader.meta(number) for number in range(len(reader.index))]
        splits[split] = _figures(packed, split, metas)
        if len(splits) == 1:
            _contact_sheet(reader, path / "contact-sheet.png")
        reader.close()
    return {
        "path": str(path),
        "name": packed.name,
        "licence": packed.licence,
        "splits": splits,
        "dropped": packed.manifest["dropped"],
        "contact_sheet": str(path / "contact-sheet.png"),
    }


def render(description: dict[str, Any]) -> str:
    """Return the description as text with bars."""
    lines = [f"{description['path']}: {description['name']} ({description['licence']})"]
    for split, part in description["splits"].items():
        lines.append(
            f"{split:6s}{part['samples']:>9,} samples {part['studies']:>9,} studies {part['patients']:>9,} patients   "
            f"reports that share their text: {part['shared_text']:.1%}"
        )
        most = max(part["words"].values()) or 1
        lines += [
            f"       {label:>9s} words {'#' * round(40 * n / most):40s} {n:,}" for label, n in part["words"].items()
        ]
        for finding, counts in part["labels"].items():
            lines.append(f"       {finding:24s} present {counts['1']:,}, absent {counts['0']:,}")
    lines.append(f"dropped: {sum(description['dropped'].values()):,}")
    lines.append(f"contact sheet: {description['contact_sheet']}")
    return "\n".join(lines) + "\n"


def _figures(packed: PackedSet, split: str, metas: list[dict[str, Any]]) -> dict[str, Any]:
    hashes = Counter(meta["text_hash"] for meta in metas)
    lengths = np.array([count_words(meta["report"]) for meta in metas])
    edges = [*LENGTHS, 10**9]
    words = {
        f"{low}-{high - 1}" if high < 10**9 else f"{low}+": int(((lengths >= low) & (lengths < high)).sum())
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    }
    findings = sorted({name for meta in metas for name in meta["labels"]})
    labels = {name: {str(v): sum(meta["labels"].get(name) == v for meta in metas) for v in (1, 0)} for name in findings}
    shared = sum(hashes[meta["text_hash"]] > 1 for meta in metas) / len(metas)
    return packed.counts(split) | {"shared_text": shared, "words": words, "labels": labels}


def _contact_sheet(reader: SampleReader, path: Path) -> None:
    tiles = []
    for number in range(min(TILES, len(reader.index))):
        image = shrink(decode_jpeg(reader.image(number)), TILE)
        canvas = np.zeros((TILE, TILE), np.uint8)
        top, left = (image.shape[0] - TILE) // 2, (image.shape[1] - TILE) // 2
        crop = image[max(top, 0) : max(top, 0) + TILE, max(left, 0) : max(left, 0) + TILE]
        canvas[: crop.shape[0], : crop.shape[1]] = crop
        tiles.append(canvas)
    tiles += [np.zeros((TILE, TILE), np.uint8)] * (-len(tiles) % 8)
    rows = [np.hstack(tiles[start : start + 8]) for start in range(0, len(tiles), 8)]
    cv2.imwrite(str(path), np.vstack(rows))
