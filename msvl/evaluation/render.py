"""Pictures for the report page: a radiograph with its boxes, the same under its heat map, as PNG bytes.

H, W height and width of the model's square.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from msvl.config.errors import DataError

Pixels = NDArray[np.uint8]

SHOWN_SIDE = 336
"""Pixels of a picture's side on the page."""
LARGEST_SIDE = 1024
"""Of a picture that keeps its own pixels."""
BOX_COLOUR = (80, 230, 120)
"""Blue, green, red: not in the heat map's palette."""
HEAT_SHARE = 0.55
"""Largest opacity of the heat map."""


def radiograph(image: Pixels, boxes: Sequence[tuple[float, float, float, float]] = ()) -> bytes:
    """Return a PNG of an image [H, W] with its boxes (x, y, w, h in its pixels)."""
    coloured = cv2.cvtColor(_enlarged(image), cv2.COLOR_GRAY2BGR).astype(np.uint8)
    return _png(_with_boxes(coloured, boxes, image.shape))


def overlay(
    image: Pixels,
    heat: NDArray[np.float32],
    boxes: Sequence[tuple[float, float, float, float]],
    *,
    side: int = SHOWN_SIDE,
) -> bytes:
    """Return a PNG of an image [H, W] under its heat map [H, W], which is stretched by its own range, with boxes.

    Args:
        image: Grey.
        heat: Any values; NaN, which is where the model saw nothing, is drawn as the least one.
        boxes: (x, y, w, h) in pixels of the image.
        side: Pixels of the picture's longer side.
    """
    base = cv2.cvtColor(_enlarged(image, side), cv2.COLOR_GRAY2BGR).astype(np.float32)
    low, high = float(np.nanmin(heat)), float(np.nanmax(heat))
    scaled = (np.where(np.isnan(heat), low, heat) - low) / max(high - low, 1e-12)
    large = np.clip(cv2.resize(scaled, base.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.applyColorMap((large * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    opacity = HEAT_SHARE * large[:, :, None]
    return _png(_with_boxes((base * (1 - opacity) + colours * opacity).astype(np.uint8), boxes, image.shape))


def _enlarged(image: Pixels, side: int = SHOWN_SIDE) -> Pixels:
    height, width = image.shape
    scale = side / max(height, width)
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=method).astype(np.uint8)


def _with_boxes(picture: Pixels, boxes: Sequence[tuple[float, float, float, float]], shape: tuple[int, ...]) -> Pixels:
    drawn = np.ascontiguousarray(picture)
    scale = picture.shape[0] / shape[0]
    for x, y, w, h in boxes:
        corners = (round(x * scale), round(y * scale)), (round((x + w) * scale), round((y + h) * scale))
        cv2.rectangle(drawn, *corners, BOX_COLOUR, 2, cv2.LINE_AA)
    return drawn


def _png(picture: Pixels) -> bytes:
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise DataError(f"a picture of {picture.shape} could not be encoded as PNG")
    return encoded.tobytes()
