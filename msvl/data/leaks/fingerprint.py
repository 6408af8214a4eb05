"""A perceptual hash of a radiograph: copies of an image get nearly the same bits, images of other patients do not.

The picture is reduced to 64 x 64, its grey values are replaced by their ranks (so that windows and gamma curves do not
matter), and each bit is the sign of a coefficient of its cosine transform. The 9 lowest frequencies are left out: they say
"chest", which all radiographs share. 512 bits, because the usual 64 cannot tell one chest from another.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from msvl.data.images import decode_image

SIDE = 64
BITS = 512
BYTES = BITS // 8
LEFT_OUT = 9
VERSION = 1
"""Changes with every change of the bits."""
WITHIN = 102
"""Bits that may differ between copies (20 %), measured by `benchmarks/data/near_duplicates.py`: recompressed, resized,
windowed and equalised copies differ in at most 13 %, with CLAHE 19 %; other radiographs of the same patient in 25 % or more,
those of other patients in 32 % or more. Of phantoms, which resemble each other more, 8 pairs in 100 million lie within it."""
DETAIL = 2.0
"""Standard deviation in pixels of the blur that detail is what is left of."""
FLATTEST = 1.0
"""Standard deviation in grey levels below which a picture shows nothing."""


def _low_frequencies() -> np.ndarray:
    """Return the places of the coefficients used, from low to high frequency: [BITS] places in the flat transform."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    by_frequency = np.argsort((across**2 + down**2).ravel(), kind="stable")
    return by_frequency[LEFT_OUT : LEFT_OUT + BITS]


COEFFICIENTS = _low_frequencies()


def fingerprint(data: bytes) -> np.ndarray | None:
    """Return the bits of a stored image: [BYTES] uint8, or None for one without structure.

    Raises ValueError when the bytes are no whole image.
    """
    return picture_fingerprint(_decode_reduced(data))


def picture_fingerprint(picture: np.ndarray) -> np.ndarray | None:
    """Return the bits of a grey picture [H, W]: [BYTES] uint8, or None for one without structure."""
    small = cv2.resize(picture.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if small.std() < FLATTEST:
        return None
    return np.packbits(cv2.dct(_ranks(small)).ravel()[COEFFICIENTS] > 0)


def detail(data: bytes) -> np.ndarray | None:
    """Return the detail of a stored image: [SIDE * SIDE] float32 of length 1, or None for one without structure.

    Its product with another's is a correlation. Raises ValueError when the bytes are no whole image.
    """
    return picture_detail(_decode_reduced(data))


def picture_detail(picture: np.ndarray) -> np.ndarray | None:
    """Return what a grey picture [H, W] has above the fingerprint's frequencies: ranks less their blur, of equal strength everywhere."""
    small = cv2.resize(picture.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if small.std() < FLATTEST:
        return None
    ranks = _ranks(small)
    fine = ranks - cv2.GaussianBlur(ranks, (0, 0), DETAIL)
    even = fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 2 * DETAIL)) + 1e-3)
    even = even - even.mean()
    return (even / np.linalg.norm(even)).ravel().astype(np.float32)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Replace values by their ranks in [0, 1], equal values by their mean rank: float32 of the same shape."""
    ordered = np.sort(values, axis=None)
    below, above = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return ((below + above) / (2 * values.size)).astype(np.float32)


def _decode_reduced(data: bytes) -> np.ndarray:
    """Decode; a JPEG at the smallest of the decoder's scales that leaves 2 x SIDE pixels, at a fifth of the time."""
    if data[:2] == b"\xff\xd8":
        return simplejpeg.decode_jpeg(data, "GRAY", min_height=2 * SIDE, min_width=2 * SIDE)[:, :, 0]
    return decode_image(data)
