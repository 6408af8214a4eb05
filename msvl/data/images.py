"""Radiographs: read from a source, pack as grey JPEG, decode to the model's square. One decode path for train and test.

Libraries: simplejpeg decodes grey JPEGs fastest and scales while decoding; OpenCV resizes and warps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from msvl.config.errors import DataError
from msvl.data.config import AugmentConfig

JPEG_QUALITY = 90
DRAWS = 7
"""Random numbers that an augmentation takes."""
REDUCED = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
"""Scales that the JPEG decoder offers."""


def read_image(path: Path, where: str) -> np.ndarray:
    """Read a PNG or JPEG of 8 or 16 bits as grey [H, W], upright by its EXIF orientation.

    Raises DataError naming `where` when it is missing or is no image; names of files are ids in many sets and are not told.
    """
    return read_reduced(path, where, at_least=0)[0]


def read_reduced(path: Path, where: str, at_least: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Read as `read_image` does, a JPEG at 1/2, 1/4 or 1/8 where its short side then still has `at_least` pixels.

    The JPEG decoder does that at a third of the cost of decoding and shrinking by as much. 0 reads the whole image.

    Returns:
        The image and the (height, width) that it has in full.
    """
    if not path.is_file():
        raise DataError(f"{where}: there is no such image file: is the folder the right one, and all of it there?")
    data = np.fromfile(path, dtype=np.uint8)
    try:
        image = decode_reduced(data, at_least)
    except cv2.error as error:  # a header that promises more pixels than OpenCV takes
        raise DataError(f"{where}: its image cannot be decoded ({' '.join(str(error.err).split())})") from error
    if image is None:
        raise DataError(f"{where}: its image file is empty, cut short or no image that can be decoded")
    full = _jpeg_size(data) if at_least else None
    if not full or min(full) < 2 * at_least:
        return image, image.shape[:2]
    # Upright images may have changed sides.
    turned = (image.shape[0] < image.shape[1]) != (full[0] < full[1])
    return image, (full[1], full[0]) if turned else full


def decode_reduced(data: np.ndarray, at_least: int) -> np.ndarray | None:
    """Decode bytes [N] uint8 to grey [H, W] of 8 or 16 bits, upright; a JPEG at 1/2, 1/4 or 1/8 as `read_reduced` does.

    Returns None for bytes that are no whole image.
    """
    full = _jpeg_size(data) if at_least else None
    reduced = [k for k in REDUCED if full and min(full) >= k * at_least]
    flags = REDUCED[max(reduced)] if reduced else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
    return cv2.imdecode(data, flags) if data.size else None


def _jpeg_size(data: np.ndarray) -> tuple[int, int] | None:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return height, width


def to_eight_bit(image: np.ndarray) -> np.ndarray:
    """Map 16-bit values to 8 bits by the image's own range (12-bit data in 16-bit files would come out black)."""
    if image.dtype == np.uint8:
        return image
    low, high, _, _ = cv2.minMaxLoc(image)
    scale = 255.0 / max(high - low, 1.0)
    return cv2.convertScaleAbs(image, alpha=scale, beta=-low * scale)


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
    """Shrink so that the short side is `short_side` pixels; smaller images stay as they are."""
    height, width = image.shape[:2]
    if min(height, width) <= short_side:
        return image
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def encode_jpeg(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Encode grey uint8 [H, W] as JPEG."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image[:, :, None]), quality, colorspace="GRAY")


def encode_png(image: np.ndarray) -> bytes:
    """Encode grey uint8 or uint16 [H, W] without loss."""
    _, data = cv2.imencode(".png", image)
    return data.tobytes()


def decode_image(data: bytes, at_least: int = 0) -> np.ndarray:
    """Decode any stored image to grey uint8 [H, W]: JPEG as `decode_jpeg` does, PNG and WebP whole, 16 bits by their range.

    Raises ValueError when the bytes are no whole image.
    """
    if data[:2] == b"\xff\xd8":
        return decode_jpeg(data, at_least)
    try:
        flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ValueError(f"its image cannot be decoded ({' '.join(str(error.err).split())})") from error
    if image is None:
        raise ValueError("its image is empty, cut short or of a format that is not known")
    return to_eight_bit(image)


def decode_jpeg(data: bytes, at_least: int = 0) -> np.ndarray:
    """Decode to grey uint8 [H, W]; at half size when both sides then still have `at_least` pixels (0: whole).

    Raises ValueError when the bytes are no whole JPEG.
    """
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    if at_least and min(height, width) >= 2 * at_least:
        half_height, half_width = -(-height // 2), -(-width // 2)
        return simplejpeg.decode_jpeg(data, "GRAY", min_height=half_height, min_width=half_width)[:, :, 0]
    return simplejpeg.decode_jpeg(data, "GRAY")[:, :, 0]


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a stored image; of a JPEG without decoding it. Raises ValueError."""
    if data[:2] == b"\xff\xd8":
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        return height, width
    return decode_image(data).shape  # type: ignore[return-value]


@dataclass(frozen=True)
class Square:
    """Where the model's square lies in an image: pixel = offset + scale * position in the square."""

    left: float
    top: float
    side: float
    """Of the square in image pixels."""


def centre_square(height: int, width: int) -> Square:
    """Return the largest centred square."""
    side = min(height, width)
    return Square(left=(width - side) / 2, top=(height - side) / 2, side=side)


def evaluation_image(data: bytes, size: int) -> np.ndarray:
    """Decode, cut the centred square and resize it to [size, size] uint8."""
    return square_image(decode_image(data, at_least=size), size)


def square_image(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the centred square of grey uint8 [H, W] and resize it to [size, size]."""
    square = centre_square(*image.shape)
    top, left, side = round(square.top), round(square.left), round(square.side)
    crop = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(crop)
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def training_image(data: bytes, augment: AugmentConfig, numbers: Sequence[float], out: np.ndarray) -> None:
    """Decode and augment.

    Args:
        data: A stored image.
        augment: Ranges.
        numbers: `DRAWS` numbers in [0, 1) that decide.
        out: [size, size] uint8, contiguous: where to.
    """
    size = out.shape[0]
    if not augment.enabled:
        out[:] = evaluation_image(data, size)
        return
    area, across, down, turn, light, gain, flip = numbers
    share = math.sqrt(augment.scale[0] + area * (augment.scale[1] - augment.scale[0]))
    image = decode_image(data, at_least=math.ceil(size / math.sqrt(augment.scale[0])))
    height, width = image.shape
    side = share * min(height, width)
    centre = (side / 2 + across * (width - side), side / 2 + down * (height - side))
    angle = (2 * turn - 1) * augment.rotation_degrees
    matrix = cv2.getRotationMatrix2D(centre, angle, size / side)
    matrix[0, 2] += size / 2 - centre[0]
    matrix[1, 2] += size / 2 - centre[1]
    if flip < augment.flip_share:
        matrix[0] *= -1
        matrix[0, 2] += size - 1
    if side > 1.5 * size:  # a plain bilinear warp would alias
        image = cv2.blur(image, (2, 2))
    cv2.warpAffine(image, matrix, (size, size), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    alpha = 1 + (2 * gain - 1) * augment.contrast
    beta = 255 * (2 * light - 1) * augment.brightness + 128 * (1 - alpha)
    cv2.addWeighted(out, alpha, out, 0, beta, dst=out)  # saturates; a quarter of the time in floats
