"""One patient's normal frontal chest: its measures, and its outlines in chest coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvl.data.phantom.geometry import SIDES, Points, draw, spline
from msvl.data.phantom.parameters import BodyParameters


@dataclass(frozen=True)
class Lung:
    """One lung's outline, split where effusions and pneumothoraces need it; x already has the side's sign."""

    side: str
    lateral: Points
    """From the apex down the chest wall to the costophrenic angle."""
    diaphragm: Points
    """From the costophrenic angle to the midline."""
    medial: Points
    """From the diaphragm up to the apex."""
    width: float
    height: float

    @property
    def sign(self) -> int:
        """Return +1 for the patient's left."""
        return SIDES[self.side]

    @property
    def outline(self) -> Points:
        """Return the closed outline [n, 2]."""
        return np.concatenate([self.lateral, self.diaphragm, self.medial])

    def wall(self, y: float) -> float:
        """Return |x| of the chest wall at height y."""
        return float(np.interp(y, self.lateral[:, 1], np.abs(self.lateral[:, 0])))


@dataclass(frozen=True)
class Anatomy:
    """What stays with a patient from study to study; lengths in chest units."""

    lungs: dict[str, Lung]
    lung_height: float
    flesh: float
    heart_left_share: float
    heart_normal: float
    heart_lean: float
    """How far the apex points down (0) or outward (1)."""
    rib_width: float
    rib_slope: float
    rib_contrast: float
    vessel_contrast: float
    mediastinum: float
    knob: float
    """Radius of the aortic knob."""
    arms_down: bool
    breasts: float
    """Size of the breast shadows, 0 for none."""
    shoulder: float
    """Height of the shoulders."""
    neck: float
    """Half width of the neck."""

    @property
    def thorax(self) -> float:
        """Return the inner width of the chest."""
        return self.lungs["left"].width + self.lungs["right"].width

    def heart(self, ratio: float, yaw: float) -> Points:
        """Return the heart's closed outline for a cardiothoracic ratio."""
        width = ratio * self.thorax
        left, right = width * self.heart_left_share, width * (1 - self.heart_left_share)
        h, lean = self.lung_height, 0.05 * self.heart_lean
        knots = [
            (-0.1, 0.42 * h),
            (-0.78 * right, 0.53 * h),
            (-right, 0.69 * h),
            (-0.86 * right, 0.85 * h),
            (-0.4 * right, 0.93 * h),
            (0.45 * left, 0.97 * h),
            (0.88 * left, (0.92 - lean) * h),
            (left, (0.82 - lean) * h),
            (0.84 * left, 0.69 * h),
            (0.58 * left, 0.56 * h),
            (0.4 * left, 0.45 * h),
        ]
        return spline(knots, closed=True, steps=6) + np.array([0.6 * yaw, 0.0])

    def upper_mediastinum(self, yaw: float) -> Points:
        """Return the outline of the great vessels with the aortic knob."""
        h, m, k = self.lung_height, self.mediastinum, self.knob
        knots = [
            (-0.75 * m, -0.35),
            (-m, 0.1 * h),
            (-1.05 * m, 0.35 * h),
            (-0.95 * m, 0.62 * h),
            (0.9 * m, 0.62 * h),
            (1.1 * m, 0.45 * h),
            (m + 0.3 * k, 0.37 * h),
            (m + k, 0.3 * h),
            (m + 0.7 * k, 0.235 * h),
            (0.9 * m, 0.17 * h),
            (0.8 * m, -0.35),
        ]
        return spline(knots, closed=True, steps=5) + np.array([0.35 * yaw, 0.0])

    def torso(self) -> Points:
        """Return the trunk's outline with neck and shoulders, open at the bottom far below the picture."""
        h, n, s, chest = self.lung_height, self.neck, self.shoulder, 1.0 + self.flesh
        half = [
            (n, -1.6),
            (n, -0.45),
            (n + 0.12, -0.22),
            (0.7, -0.12 - s),
            (1.15, -0.02 - s),
            (1.42 + 0.3 * self.flesh, 0.2),
            (1.36 + 0.4 * self.flesh, 0.42),
            (chest + 0.06, 0.5 * h),
            (chest, 0.75 * h),
            (chest + 0.02, 1.1 * h),
            (chest + 0.06, 3.2),
        ]
        right = spline(half, steps=5)
        return np.concatenate([right, right[::-1] * np.array([-1.0, 1.0])])

    def arm(self, side: str) -> Points:
        """Return the outline of one arm: hanging beside the trunk, or led away from it."""
        sign, f = SIDES[side], 0.35 * self.flesh
        if self.arms_down:
            knots = [
                (1.0, 0.0),
                (1.4 + f, 0.12),
                (1.62 + f, 0.45),
                (1.78 + f, 1.2),
                (1.85 + f, 3.0),
                (1.45, 3.0),
                (1.42, 1.3),
                (1.2, 0.6),
            ]
        else:
            knots = [
                (1.0, -0.05),
                (1.4 + f, 0.0),
                (1.9, 0.35),
                (2.6, 0.9),
                (2.6, 1.6),
                (1.9, 0.95),
                (1.45, 0.75),
                (1.15, 0.6),
            ]
        return spline(knots, closed=True, steps=5) * np.array([sign, 1.0])


def sample_anatomy(rng: np.random.Generator, body: BodyParameters) -> Anatomy:
    """Draw one patient."""
    height = draw(rng, body.lung_height)
    lungs = {side: _sample_lung(rng, body, side=side, height=height) for side in SIDES}
    return Anatomy(
        lungs=lungs,
        lung_height=height,
        flesh=draw(rng, body.flesh),
        heart_left_share=draw(rng, body.heart_left_share),
        heart_normal=draw(rng, body.heart_normal),
        heart_lean=float(rng.uniform(0, 1)),
        rib_width=draw(rng, body.rib_width),
        rib_slope=float(rng.uniform(0.2, 0.42)),
        rib_contrast=draw(rng, body.rib_contrast),
        vessel_contrast=draw(rng, body.vessel_contrast),
        mediastinum=draw(rng, body.mediastinum),
        knob=float(rng.uniform(0.03, 0.12)),
        arms_down=bool(rng.uniform() < body.arms_down),
        breasts=float(rng.uniform(0.3, 0.55)) if rng.uniform() < body.breasts else 0.0,
        shoulder=float(rng.uniform(-0.06, 0.1)),
        neck=float(rng.uniform(0.3, 0.42)),
    )


def _sample_lung(rng: np.random.Generator, body: BodyParameters, *, side: str, height: float) -> Lung:
    w = draw(rng, body.lung_width)
    # The liver lifts the right dome, and both corners lie at their own heights.
    h = height * float(rng.uniform(0.95, 1.03))
    dome = min(draw(rng, body.dome) - (0.025 if side == "right" else 0.0), 0.9) * h
    apex, bulge, top = rng.uniform(0.3, 0.42), rng.uniform(-0.04, 0.04), rng.uniform(0.0, 0.06)
    lateral = [
        (apex * w, top),
        ((apex + 0.2) * w, top + 0.06 * h),
        (0.72 * w, 0.2 * h + top),
        ((0.87 + bulge) * w, 0.42 * h),
        ((0.97 + 0.5 * bulge) * w, 0.7 * h),
        (w, 0.88 * h),
        (0.985 * w, h),
    ]
    diaphragm = [
        (0.985 * w, h),
        (0.9 * w, 0.5 * (h + dome)),
        (0.62 * w, dome + 0.01),
        (0.35 * w, dome),
        (0.08, dome + 0.07),
    ]
    medial = [
        (0.08, dome + 0.07),
        (0.08, 0.6 * h),
        (0.1, 0.3 * h),
        (0.15, 0.1 * h + top),
        (0.22, 0.025 * h + top),
        (apex * w, top),
    ]
    flip = np.array([SIDES[side], 1.0])
    return Lung(
        side, spline(lateral) * flip, spline(diaphragm) * flip, spline(medial, steps=4) * flip, float(w), float(h)
    )
