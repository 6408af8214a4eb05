"""Compressed frames of DICOM files -> pixels, by imagecodecs: one library for every transfer syntax, none of it under the GPL."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
from pydicom import uid

from msvl.data.images import REDUCED, decode_reduced

JPEG_END = b"\xff\xd9"
RLE_HEADER = struct.Struct("<16I")
"""Number of segments, and where each begins."""
JPEG_FAMILY = {
    uid.JPEGBaseline8Bit: "jpeg8_decode",
    uid.JPEGExtended12Bit: "jpeg8_decode",
    uid.JPEGLossless: "jpeg8_decode",
    uid.JPEGLosslessSV1: "jpeg8_decode",
    uid.JPEGLSLossless: "jpegls_decode",
    uid.JPEGLSNearLossless: "jpegls_decode",
    uid.JPEG2000Lossless: "jpeg2k_decode",
    uid.JPEG2000: "jpeg2k_decode",
}
"""Transfer syntax -> function of imagecodecs. Each of these streams ends with the same two bytes."""
SYNTAXES = (*JPEG_FAMILY, uid.RLELossless)
"""What `decode_frame` takes."""


def decode_frame(frame: bytes, syntax: uid.UID, shape: tuple[int, int], depth: int, at_least: int = 0) -> np.ndarray:
    """Decode one grey frame.

    Args:
        frame: The compressed bytes, its fragments joined.
        syntax: One of SYNTAXES.
        shape: (rows, columns) that the file states.
        depth: Bits allocated to a pixel, 8 or 16.
        at_least: Baseline JPEGs may come at 1/2, 1/4 or 1/8 where both sides then still have so many pixels; 0: whole.

    Returns:
        [H, W] uint8 or uint16: bit patterns, the same for signed and unsigned pixels.

    Raises:
        ValueError: The frame is cut short, damaged or of another size.
    """
    if syntax == uid.RLELossless:
        pixels = _decode_rle(frame, shape, depth)
    elif not frame.rstrip(b"\0").endswith(JPEG_END):
        raise ValueError("its pixels are cut short")
    elif syntax == uid.JPEGBaseline8Bit:
        pixels = _decode_baseline(frame, at_least)
    else:
        try:
            pixels = getattr(imagecodecs, JPEG_FAMILY[syntax])(frame)
        except RuntimeError as error:  # the base of all errors of imagecodecs
            raise ValueError("its pixels are damaged") from error
    if pixels.ndim != 2 or pixels.dtype.itemsize > 2:
        raise ValueError("its compressed pixels are not grey values of at most 16 bits")
    reduced = [tuple(-(-side // factor) for side in shape) for factor in REDUCED] if at_least else []
    if pixels.shape != shape and pixels.shape not in reduced:
        raise ValueError(
            f"its pixels are {pixels.shape[0]} x {pixels.shape[1]}, its header says {shape[0]} x {shape[1]}"
        )
    return pixels.view(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16)


def _decode_baseline(frame: bytes, at_least: int) -> np.ndarray:
    pixels = decode_reduced(np.frombuffer(frame, np.uint8), at_least)
    if pixels is None:
        raise ValueError("its pixels are damaged")
    return pixels


def _decode_rle(frame: bytes, shape: tuple[int, int], depth: int) -> np.ndarray:
    _check_rle(frame, depth // 8)
    try:
        pixels = np.frombuffer(imagecodecs.dicomrle_decode(frame, f"<u{depth // 8}"), dtype=f"<u{depth // 8}")
    except (RuntimeError, ValueError) as error:
        raise ValueError("its pixels are damaged") from error
    if pixels.size != shape[0] * shape[1]:
        raise ValueError("its pixels are cut short")
    return pixels.reshape(shape)


def _check_rle(frame: bytes, planes: int) -> None:
    """Check the table of segments, one per byte of a pixel: the decoder believes it and would end the process."""
    if len(frame) < RLE_HEADER.size:
        raise ValueError("its pixels are cut short")
    count, *offsets = RLE_HEADER.unpack_from(frame)
    used = [*offsets[:planes], len(frame)]
    if count != planes or used[0] != RLE_HEADER.size or any(a >= b for a, b in zip(used, used[1:], strict=False)):
        raise ValueError("its pixels are damaged")
