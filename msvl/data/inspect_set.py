"""What is in a packed set: counts, report lengths, image sizes, duplicates, and a contact sheet to look at."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from msvl.config.errors import DataError
from msvl.data.images import decode_image, image_size, shrink
from msvl.data.index import SplitIndex, study_starts
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.reader import SampleReader
from msvl.data.reports import count_words, repeated_headings
from msvl.data.sample import sections_of

TILES, COLUMNS, TILE = 24, 8, 160
WORDS = (0, 10, 20, 40, 60, 80, 120, 200)
"""Lower edges of the bins of report lengths."""
SIDES = (0, 128, 224, 256, 384, 512, 768, 1024, 2048)
"""Lower edges of the bins of short sides in pixels."""


def describe(path: str | Path, out: Path | None = None, *, samples: int = 20_000) -> dict[str, Any]:
    """Return figures per split; write contact-sheet.png and histograms.png.

    Args:
        path: Packed set, a folder or URL.
        out: Where the pictures go; None is beside the manifest, or this folder for a set that is elsewhere.
        samples: How many samples of a split are read for lengths, sizes, labels and equal images (a seeded choice of
            larger splits). Counts, equal texts and studies are those of all.

    Raises:
        DataError: there is no set, or the pictures cannot be written.
    """
    from msvl.data.inspect_plots import write_histograms  # matplotlib is slow to import

    packed = PackedSet.open(path)
    folder = out or (packed.path if packed.location.is_local else Path())
    splits = {}
    for split in SPLITS:
        if packed.counts(split)["samples"]:
            figures = _figures(packed.split(split), packed.counts(split), samples, has_reports=packed.has_reports)
            splits[split] = figures
    first = packed.split(next(iter(splits)))
    _write_sheet(first, folder / "contact-sheet.png", private=not packed.shareable)
    write_histograms(splits, folder / "histograms.png")
    return {
        "path": str(packed.location),
        "name": packed.name,
        "licence": packed.licence,
        "reports": packed.reports,
        "splits": splits,
        "dropped": packed.manifest["dropped"],
        "contact_sheet": str(folder / "contact-sheet.png"),
        "histograms": str(folder / "histograms.png"),
    }


def render(description: dict[str, Any]) -> str:
    """Return the description as text with bars."""
    lines = [
        f"{description['path']}: {description['name']} ({description['licence']}), reports: {description['reports']}"
    ]
    for split, part in description["splits"].items():
        lines += [
            f"{split:6s}{part['samples']:>9,} samples {part['studies']:>9,} studies {part['patients']:>9,} patients "
            f"{part['shards']:>7,} shards {part['bytes'] / 1e9:.3g} GB",
            f"       studies whose text another has too {part['shared_text']:.1%}, images that are there twice "
            f"{part['shared_image']:.1%}, images whose study has several {part['shared_study']:.1%}",
        ]
        if part["read"] < part["samples"]:
            lines.append(f"       lengths, sizes, labels and equal images: of {part['read']:,} samples")
        if part["unreadable"]:
            lines.append(f"       {part['unreadable']:,} cannot be read: see `msvl data verify {description['path']}`")
        if part["repeated_headings"]:
            lines.append(
                f"       reports with a section twice, of which the last is read: {part['repeated_headings']:,}"
            )
        lines += _bars("words", part["words"]) + _bars("px", part["short_side"])
        for finding, counts in part["labels"].items():
            unsure = f", uncertain {counts['-1']:,}" if counts["-1"] else ""
            lines.append(f"       {finding:24s} present {counts['1']:,}, absent {counts['0']:,}{unsure}")
    lines.append(f"dropped: {sum(description['dropped'].values()):,}")
    lines += [f"       {count:,} {reason}" for reason, count in description["dropped"].items()]
    lines += [f"contact sheet: {description['contact_sheet']}", f"histograms: {description['histograms']}"]
    return "\n".join(lines) + "\n"


def _bars(unit: str, counts: dict[str, int]) -> list[str]:
    most = max(counts.values()) or 1
    return [f"       {label:>9s} {unit:5s} {'#' * round(40 * n / most):40s} {n:,}" for label, n in counts.items() if n]


def _figures(index: SplitIndex, counts: dict[str, int], samples: int, *, has_reports: bool) -> dict[str, Any]:
    rows = np.sort(np.random.default_rng(0).permutation(len(index))[:samples])
    reader = SampleReader(index)
    metas: list[dict[str, Any]] = []
    sides: list[int] = []
    for row in rows.tolist():
        try:
            meta, side = reader.meta(row), min(image_size(reader.image(row)))
        except ValueError:  # counted; `verify` names them
            continue
        metas.append(meta)
        sides.append(side)
    reader.close()
    images = Counter(meta["image_hash"] for meta in metas if meta.get("image_hash"))
    findings = sorted({name for meta in metas for name in meta["labels"]})
    labels = {
        name: {str(v): sum(meta["labels"].get(name) == v for meta in metas) for v in (1, 0, -1)} for name in findings
    }
    return counts | {
        "shards": len(index.shards),
        "bytes": sum(shard.bytes for shard in index.shards),
        "read": len(rows),
        "unreadable": len(rows) - len(metas),
        "shared_text": _shared_texts(index),
        "shared_image": sum(n for n in images.values() if n > 1) / max(1, sum(images.values())),
        "shared_study": _shared_studies(index),
        "words": _histogram([count_words(meta["report"]) for meta in metas] if has_reports else [], WORDS),
        "repeated_headings": sum(repeated_headings(sections_of(meta)) for meta in metas),
        "short_side": _histogram(sides, SIDES),
        "labels": labels,
    }


def _shared_texts(index: SplitIndex) -> float:
    """Return the share of studies whose first text another study has too."""
    texts = index.records["text"][study_starts(index.records["study"])]
    _, times = np.unique(texts[texts != 0], return_counts=True)
    return float(times[times > 1].sum() / len(texts))


def _shared_studies(index: SplitIndex) -> float:
    """Return the share of samples that are not the only one of their study."""
    _, times = np.unique(index.records["study"], return_counts=True)
    return float(times[times > 1].sum() / len(index))


def _histogram(values: list[int], edges: tuple[int, ...]) -> dict[str, int]:
    counts, _ = np.histogram(values, bins=[*edges, np.inf])
    labels = [f"{low}-{high - 1}" for low, high in zip(edges[:-1], edges[1:], strict=True)] + [f"{edges[-1]}+"]
    return dict(zip(labels, counts.tolist(), strict=True))


def _write_sheet(index: SplitIndex, path: Path, *, private: bool) -> None:
    """Write the first readable images as a sheet of square cuts, for its owner alone where they are patients'."""
    reader, row = SampleReader(index), 0
    tiles: list[np.ndarray] = []
    while row < len(index) and len(tiles) < TILES:
        with suppress(ValueError):  # counted above
            tiles.append(_tile(decode_image(reader.image(row))))
        row += 1
    reader.close()
    tiles += [np.zeros((TILE, TILE), np.uint8)] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    if rows and not cv2.imwrite(str(path), np.vstack(rows)):
        raise DataError(f"{path} cannot be written: name a folder with --out")
    if rows and private:
        path.chmod(0o600)


def _tile(image: np.ndarray) -> np.ndarray:
    image = shrink(image, TILE)
    canvas = np.zeros((TILE, TILE), np.uint8)
    top, left = max((image.shape[0] - TILE) // 2, 0), max((image.shape[1] - TILE) // 2, 0)
    crop = image[top : top + TILE, left : left + TILE]
    canvas[: crop.shape[0], : crop.shape[1]] = crop
    return canvas
