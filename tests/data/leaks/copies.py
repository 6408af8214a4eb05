"""Packed sets and lists of one pool of phantom images, so that what they share is known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from msvl.data.pack import pack
from msvl.data.pack_options import PackOptions
from msvl.data.sources.phantom import PhantomSource
from msvl.data.sources.table import TableColumns, TableSource

Picture = np.ndarray
Rows = Sequence[tuple[str, str, str, str]]
"""(image, patient, split, report)"""


def pictures(count: int, *, seed: int = 0, size: int = 224) -> list[Picture]:
    """Draw radiographs of as many patients."""
    source = PhantomSource(train=count, val=0, test=0, seed=seed, size=size, studies_per_patient=1.0)
    return [source.record(entry).image for entry in source.entries()]


def windowed(picture: Picture, low: float, high: float) -> Picture:
    """Stretch the grey values between two quantiles over the whole range."""
    bottom, top = np.quantile(picture, [low, high])
    return np.clip((picture - bottom) * 255.0 / max(top - bottom, 1.0), 0, 255).astype(np.uint8)


def recompressed(picture: Picture, quality: int) -> Picture:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def resized(picture: Picture, side: int) -> Picture:
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def sixteen_bits(picture: Picture) -> Picture:
    """A 12-bit range in a 16-bit file."""
    return picture.astype(np.uint16) * 12 + 700


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "recompressed": lambda picture: recompressed(picture, 40),
    "smaller": lambda picture: recompressed(resized(picture, 160), 75),
    "larger": lambda picture: cv2.resize(picture, (320, 320), interpolation=cv2.INTER_CUBIC),
    "windowed": lambda picture: windowed(picture, 0.05, 0.95),
    "gamma": lambda picture: (255 * (picture / 255.0) ** 1.8).astype(np.uint8),
    "equalised": cv2.equalizeHist,
    "negative": lambda picture: 255 - picture,
    "sixteen bits": sixteen_bits,
    "cropped by a pixel": lambda picture: picture[1:-1, 1:-1],
}


def write_table(folder: Path, rows: Rows, images: dict[str, Picture]) -> Path:
    """Write pictures and a table; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in images.items():
        assert cv2.imwrite(str(folder / name), picture)
    table = folder / "reports.csv"
    with open(table, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "patient", "split", "report"])
        writer.writerows(rows)
    return table


def pack_table(
    folder: Path,
    rows: Rows,
    images: dict[str, Picture],
    *,
    name: str = "table",
    id_space: str | None = None,
    **options: Any,
) -> Path:
    """Pack a table of pictures by its own splits; return the set."""
    table = write_table(folder, rows, images)
    columns = TableColumns(patient="patient", split="split")
    out = folder / "set"
    settings = PackOptions(**{"short_side": 224, **options})
    pack(TableSource(folder, table, columns, name=name, id_space=id_space), out, settings, workers=1, progress=False)
    return out
