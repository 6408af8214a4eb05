"""From chest coordinates to pixels: splines, the pose, and drawing with fixed-point precision.

Chest coordinates: origin at the level of the lungs' apices on the midline, x towards the patient's left (the viewer's
right), y down. H, W are the picture's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from msvl.data.phantom.parameters import PoseParameters, Range

Points = NDArray[np.float64]
Plane = NDArray[np.float32]
Canvas = NDArray[np.uint8]

SHIFT = 4
"""Bits of OpenCV's fixed-point coordinates."""

SIDES = {"right": -1, "left": 1}
"""The patient's side -> sign of x."""


def _weights(steps: int) -> Points:
    """Return the weights [steps, 4] of four neighbouring points."""
    t = np.arange(steps) / steps
    weights = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1)
    return 0.5 * weights


CATMULL_ROM = {steps: _weights(steps) for steps in range(2, 9)}
"""Points per piece of a curve -> weights."""


def draw(rng: np.random.Generator, span: Range) -> float:
    """Return a uniform number from a range."""
    return float(rng.uniform(*span))


def spline(points: Sequence[Sequence[float]] | Points, *, closed: bool = False, steps: int = 8) -> Points:
    """Return Catmull-Rom curves [..., n, 2] through points [..., k, 2]; open ones end at their first and last point."""
    knots = np.asarray(points, dtype=np.float64)
    before, after = (knots[..., -1:, :], knots[..., :2, :]) if closed else (knots[..., :1, :], knots[..., -1:, :])
    p = np.concatenate([before, knots, after], axis=-2)
    curve = CATMULL_ROM[steps] @ np.stack([p[..., k : p.shape[-2] - 3 + k, :] for k in range(4)], axis=-2)
    curve = curve.reshape(*knots.shape[:-2], -1, 2)
    return curve if closed else np.concatenate([curve, knots[..., -1:, :]], axis=-2)


@dataclass(frozen=True)
class Pose:
    """An affine map from chest coordinates to the pixels of a square picture."""

    size: int
    matrix: Points
    """[2, 3]."""
    unit: float
    """Pixels per chest unit (geometric mean of both axes)."""
    yaw: float
    """Shift of structures in front (chest units, towards the patient's left)."""
    tilt_degrees: float

    @classmethod
    def sample(cls, rng: np.random.Generator, parameters: PoseParameters, *, size: int, centre: float) -> Pose:
        """Draw a pose that puts the chest's middle (0, centre) near the picture's middle."""
        scale = draw(rng, parameters.scale) * size
        stretch = np.sqrt(draw(rng, parameters.stretch))
        tilt = np.deg2rad(rng.uniform(-1, 1) * parameters.tilt_degrees)
        shift = rng.uniform(-parameters.shift, parameters.shift, size=2) * size
        rotation = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
        linear = rotation @ np.diag([scale * stretch, scale / stretch])
        offset = np.array([size / 2, size / 2]) + shift - linear @ np.array([0.0, centre])
        yaw = float(rng.uniform(-1, 1) * parameters.yaw)
        return cls(size, np.concatenate([linear, offset[:, None]], axis=1), float(scale), yaw, float(np.rad2deg(tilt)))

    def pixels(self, points: Sequence[Sequence[float]] | Points) -> Points:
        """Map chest coordinates [..., 2] to pixel coordinates [..., 2]."""
        return np.asarray(points, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def chest(self, pixels: Sequence[float]) -> tuple[float, float]:
        """Map one pixel position back to chest coordinates."""
        x, y = np.linalg.solve(self.matrix[:, :2], np.asarray(pixels, dtype=np.float64) - self.matrix[:, 2])
        return float(x), float(y)

    def fixed(self, points: Sequence[Sequence[float]] | Points) -> NDArray[np.int32]:
        """Map chest coordinates to OpenCV's fixed-point pixels."""
        scaled = np.asarray(points, dtype=np.float64) @ (self.matrix[:, :2].T * (1 << SHIFT))
        return (scaled + (self.matrix[:, 2] * (1 << SHIFT) + 0.5)).astype(np.int32)

    def canvas(self) -> Canvas:
        """Return an empty picture [H, W]."""
        return np.zeros((self.size, self.size), dtype=np.uint8)

    def fill(self, *shapes: Points, canvas: Canvas | None = None, value: int = 255) -> Canvas:
        """Fill closed shapes, smooth at their edges; returns the canvas [H, W]."""
        canvas = self.canvas() if canvas is None else canvas
        for shape in shapes:
            cv2.fillPoly(canvas, [self.fixed(shape)], value, cv2.LINE_AA, SHIFT)
        return canvas

    def lines(self, curves: Points, canvas: Canvas, *, width: float, value: int = 255) -> None:
        """Draw open curves [c, n, 2]; `width` is in chest units and at least one pixel."""
        thickness = max(1, round(width * self.unit))
        fixed = list(self.fixed(curves))
        # Smooth edges cost half the time of thick lines, which are all blurred afterwards.
        kind = cv2.LINE_AA if thickness < 4 else cv2.LINE_8
        cv2.polylines(canvas, fixed, isClosed=False, color=value, thickness=thickness, lineType=kind, shift=SHIFT)

    def spread(self, layer: Canvas, sigma: float = 0.0, *, gain: float = 1.0) -> Plane:
        """Turn a canvas into shares [H, W] from 0 to `gain`, blurred by `sigma` chest units."""
        blurred = cv2.GaussianBlur(layer, (0, 0), sigma * self.unit) if sigma else layer
        return np.multiply(blurred, np.float32(gain / 255), dtype=np.float32)

    def haze(self, layer: Canvas, sigma: float, *, gain: float = 1.0) -> Plane:
        """As `spread` for wide blurs, at a quarter of the resolution [H / 4, W / 4]: most of a body is smooth."""
        quarter = (self.size // 4, self.size // 4)
        small = cv2.resize(layer, quarter, interpolation=cv2.INTER_AREA).astype(np.float32)
        small *= np.float32(gain / 255)
        return cv2.GaussianBlur(small, (0, 0), max(sigma * self.unit / 4, 0.3), borderType=cv2.BORDER_REPLICATE)

    def enlarge(self, coarse: Plane) -> Plane:
        """Bring a coarse plane to the picture's resolution [H, W]."""
        return np.asarray(cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_LINEAR))
