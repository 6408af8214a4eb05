"""A held-out split in memory: images as the model sees them, reports, labels, boxes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.images import Square, centre_square, evaluation_image
from msvl.data.images import image_size as stored_size
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.study import Box
from msvl.data.subset import subset_rows
from msvl.data.uncertainty import UNKNOWN

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """N studies with what is known about them."""

    images: Tensor
    """[N, 1, H, W] uint8."""
    sentences: list[list[str]]
    """Report sentences of the configured sections; none of a set without reports."""
    labels: dict[str, np.ndarray]
    """Finding -> [N] int64: 1 present, 0 absent, UNCERTAIN, UNKNOWN (see `uncertainty`)."""
    boxes: list[list[Box]]
    """In pixels of the model's square, cut at its border."""
    keys: list[str]
    patients: list[str]
    studies: list[str]
    text_hashes: list[str]
    views: list[str]
    """'PA', 'AP', 'frontal', ... or 'unknown'."""
    extras: list[dict[str, Any]]
    """What the source says besides: sex, age, race, ..."""
    shapes: list[tuple[int, int]]
    """(height, width) of the stored image of those with boxes, else (0, 0)."""
    stored_boxes: list[list[Box]]
    """In pixels of the stored image, whole."""
    numbers: list[int]
    """Places in the split's index, for those who read more of a sample."""

    @classmethod
    def load(
        cls, packed: PackedSet, split: str, *, image_size: int, report: ReportConfig, limit: int | None = None,
        subset: str | None = None,
    ) -> EvaluationSet:  # fmt: skip
        """Decode a split, or what a list of `msvl data subset` names of it (the first `limit` samples; the order of keys is random).

        Unreadable samples are left out and named in the log. Raises DataError when the split is empty or nothing is
        readable.
        """
        index = packed.split(split)
        reader = SampleReader(index)
        cv2.setNumThreads(1)
        rows = []
        numbers = subset_rows(index, subset).tolist() if subset else range(len(index))
        for number in numbers[: limit or len(index)]:
            try:
                read = report if packed.has_reports else None
                rows.append((number, *_row(reader, number, image_size, read)))
            except ValueError as error:
                logger.warning("sample %s of %s is left out: %s", reader.shown_key(number), reader.shard(number), error)
        reader.close()
        if not rows:
            raise DataError(
                f"{packed.location}: no sample of split {split} can be read; see `msvl data verify {packed.location}`"
            )
        numbers, images, sentences, labels, boxes, keys, metas, shapes = zip(*rows, strict=True)
        return cls(
            images=torch.from_numpy(np.stack(images)[:, None]),
            sentences=list(sentences),
            labels=_columns(list(labels)),
            boxes=list(boxes),
            keys=list(keys),
            patients=[meta["patient"] for meta in metas],
            studies=[meta["study"] for meta in metas],
            text_hashes=[meta["text_hash"] for meta in metas],
            views=[str(meta.get("view", "unknown")) for meta in metas],
            extras=[meta.get("extra", {}) for meta in metas],
            shapes=list(shapes),
            stored_boxes=[[Box(**box) for box in meta["boxes"]] for meta in metas],
            numbers=list(numbers),
        )

    @classmethod
    def empty(cls, image_size: int) -> EvaluationSet:
        """Return a set without studies, for a split that a packed set lacks."""
        images = torch.zeros(0, 1, image_size, image_size, dtype=torch.uint8)
        lists: dict[str, list[Any]] = {item.name: [] for item in fields(cls) if item.name not in ("images", "labels")}
        return cls(images=images, labels={}, **lists)

    def __len__(self) -> int:
        """Return the number of studies."""
        return len(self.keys)


def _row(reader: SampleReader, number: int, size: int, report: ReportConfig | None) -> tuple:
    meta = reader.meta(number)
    data = reader.image(number)
    shape = stored_size(data) if meta["boxes"] else (0, 0)
    square = centre_square(*shape) if meta["boxes"] else None
    boxes = [_in_square(Box(**box), square, size) for box in meta["boxes"]] if square else []
    kept = [box for box in boxes if box is not None]
    return (
        evaluation_image(data, size),
        list(usable_sentences(meta, report)) if report else [],
        meta["labels"],
        kept,
        reader.key(number),
        meta,
        shape,
    )


def _in_square(box: Box, square: Square, size: int) -> Box | None:
    """Map a box from the stored image to the model's square; None when it lies outside."""
    scale = size / square.side
    left, top = (box.x - square.left) * scale, (box.y - square.top) * scale
    right, bottom = min(left + box.w * scale, size), min(top + box.h * scale, size)
    left, top = max(left, 0.0), max(top, 0.0)
    if right - left < 1 or bottom - top < 1:
        return None
    return replace(box, x=left, y=top, w=right - left, h=bottom - top)


def _columns(labels: list[dict[str, int | None]]) -> dict[str, np.ndarray]:
    names = sorted({name for row in labels for name in row})
    columns = {}
    for name in names:
        values = [row.get(name) for row in labels]
        columns[name] = np.array([UNKNOWN if value is None else value for value in values], dtype=np.int64)
    return columns
