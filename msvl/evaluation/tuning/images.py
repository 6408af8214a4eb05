"""Training images for tasks with labels: read one by one from the packed set, cut at random, a batch ahead in threads.

What is drawn depends on (seed, step, place in the batch) alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msvl.data.images import centre_square, decode_image
from msvl.data.reader import SampleReader

THREADS = 4
"""Decoding leaves Python, so threads serve a GPU as processes would."""


@dataclass(frozen=True)
class Cut:
    """How training images are cut."""

    size: int
    """Side of the square that the network reads."""
    area: tuple[float, float]
    """Range of the cut's share of the image; (1, 1) is the centred square."""
    flip: float
    """Chance of a mirror image."""


@dataclass(frozen=True)
class TrainingBatch:
    """B images with the rows that they have in the training split, and their masks where asked for."""

    images: Tensor
    """[B, 1, size, size] uint8."""
    rows: NDArray[np.int64]
    masks: Tensor | None
    """[B, K, size, size] bool."""


class TrainingImages:
    """Endless batches of a subset, every image once per pass, in another order each pass."""

    def __init__(
        self, reader: SampleReader, numbers: Sequence[int], rows: NDArray[np.int64], cut: Cut, *, batch: int, seed: int,
        bits: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Remember where images are.

        Args:
            reader: Of the training split.
            numbers: Sample number of each row of the training split.
            rows: The subset.
            cut: How they are cut.
            batch: Images per batch.
            seed: Decides order and cuts.
            bits: Bits of the mask images to read; none reads no masks.
        """
        self._reader, self._numbers, self._rows, self._cut = reader, numbers, rows, cut
        self._batch, self._seed, self._bits = batch, seed, tuple(bits)
        self._lock = threading.Lock()

    def batches(self, steps: int) -> Iterator[TrainingBatch]:
        """Yield `steps` batches, the next one being read meanwhile."""
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(THREADS) as pool:
            ahead = self._start(pool, 0)
            for step in range(steps):
                now, ahead = ahead, self._start(pool, step + 1) if step + 1 < steps else ([], [])
                parts = [part.result() for part in now[1]]
                masks = np.stack([mask for _, mask in parts]) if self._bits else None
                yield TrainingBatch(
                    images=torch.from_numpy(np.stack([image for image, _ in parts])[:, None]),
                    rows=np.asarray(now[0]),
                    masks=None if masks is None else torch.from_numpy(masks),
                )

    def _start(self, pool: ThreadPoolExecutor, step: int) -> tuple[list[int], list[Future]]:
        rows = [self._row(step * self._batch + place) for place in range(self._batch)]
        parts = [pool.submit(self._read, row, step * self._batch + place) for place, row in enumerate(rows)]
        return rows, parts

    def _row(self, draw: int) -> int:
        turn, place = divmod(draw, len(self._rows))
        order = np.random.default_rng([self._seed, 1, turn]).permutation(len(self._rows))
        return int(self._rows[order[place]])

    def _read(self, row: int, draw: int) -> tuple[np.ndarray, np.ndarray | None]:
        number = self._numbers[row]
        with self._lock:  # a reader keeps open files, so one thread reads at a time; decoding is what takes long
            data, packed = self._reader.image(number), self._reader.mask(number) if self._bits else None
        image = decode_image(data)
        top, left, height, width, mirrored = _window(
            image.shape, self._cut, np.random.default_rng([self._seed, 2, draw])
        )
        window = slice(top, top + height), slice(left, left + width)
        size = (self._cut.size, self._cut.size)
        method = cv2.INTER_AREA if min(height, width) > self._cut.size else cv2.INTER_LINEAR
        cut = cv2.resize(np.ascontiguousarray(image[window]), size, interpolation=method)
        mask = None
        if self._bits:
            mask = unpack_mask(packed, image.shape, self._bits)
            mask = np.stack([_smaller(plane[window], self._cut.size) for plane in mask])
        if mirrored:
            cut, mask = cut[:, ::-1], None if mask is None else mask[:, :, ::-1]
        return np.ascontiguousarray(cut).astype(np.uint8), None if mask is None else np.ascontiguousarray(mask)


def _window(shape: tuple[int, ...], cut: Cut, rng: np.random.Generator) -> tuple[int, int, int, int, bool]:
    """Return top, left, height, width of a random cut of aspect 3:4 to 4:3 (torchvision's rule, its ten tries), and the mirror."""
    height, width = shape
    mirrored = bool(rng.random() < cut.flip)
    for _ in range(10 if cut.area != (1.0, 1.0) else 0):
        area = height * width * rng.uniform(*cut.area)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < wide <= width and 0 < high <= height:
            return int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1)), high, wide, mirrored
    square = centre_square(height, width)
    side = round(square.side)
    return round(square.top), round(square.left), side, side, mirrored


def unpack_mask(data: bytes | None, shape: tuple[int, ...], bits: Sequence[int]) -> NDArray[np.bool_]:
    """Return a sample's masks [K, H, W]; all empty where the sample has none (healthy images of SIIM)."""
    if data is None:
        return np.zeros((len(bits), *shape), dtype=bool)
    packed = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint16)
    return np.stack([(packed >> bit & 1).astype(bool) for bit in bits])


def square_mask(reader: SampleReader, number: int, size: int, bits: Sequence[int]) -> NDArray[np.bool_]:
    """Return a sample's masks in the centred square [K, size, size], as images are cut for judgement."""
    shape = decode_image(reader.image(number)).shape
    mask = unpack_mask(reader.mask(number), shape, bits)
    square = centre_square(*shape)
    top, left, side = round(square.top), round(square.left), round(square.side)
    return np.stack([_smaller(plane[top : top + side, left : left + side], size) for plane in mask])


def _smaller(plane: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    resized = cv2.resize(plane.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
    return resized.astype(bool)
