"""From attenuation to film: devices, exposure, noise, borders, markers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from msvl.data.phantom.anatomy import Anatomy
from msvl.data.phantom.geometry import Canvas, Plane, Pose, draw, spline
from msvl.data.phantom.parameters import FilmParameters

LEVELS = 2048
"""Steps of the film's curve."""

LETTERS = {
    "L": (((0.0, 0.0), (0.0, 1.0), (0.6, 1.0)),),
    "R": (((0.0, 1.0), (0.0, 0.0), (0.45, 0.0), (0.6, 0.25), (0.45, 0.5), (0.0, 0.5)), ((0.3, 0.5), (0.6, 1.0))),
}
"""Strokes of the side markers; 1 is the letter's height."""


def devices(rng: np.random.Generator, anatomy: Anatomy, pose: Pose, *, film: FilmParameters) -> Canvas:
    """Return cables, catheters and pacemakers [H, W], most often none."""
    canvas, h = pose.canvas(), anatomy.lung_height
    if rng.uniform() < film.leads:
        for _ in range(int(rng.integers(2, 5))):
            # Electrodes are smaller than any nodule, brighter, and hang on a cable.
            end = rng.uniform((-1.0, 0.1), (1.0, 1.1 * h))
            bend = 0.5 * (end + (0.5, 2.2)) + rng.normal(0, 0.25, 2)
            pose.lines(spline([end, bend, (rng.uniform(-0.8, 0.8), 2.8)])[None], canvas, width=0.012, value=150)
            spot = np.round(pose.pixels(end)).astype(int).tolist()
            cv2.circle(canvas, spot, max(1, round(0.035 * pose.unit)), 255, -1, cv2.LINE_AA)
    if rng.uniform() < film.tube:
        sign = float(rng.choice([-1.0, 1.0]))
        way = [
            (0.45 * sign, -0.8),
            (0.35 * sign, -0.1),
            (-0.1, 0.2 * h),
            (-0.17, 0.35 * h),
            (-0.16, rng.uniform(0.45, 0.6) * h),
        ]
        pose.lines(spline(way)[None], canvas, width=0.022, value=170)
    if rng.uniform() < film.pacemaker:
        angle = np.linspace(0, 2 * np.pi, 18, endpoint=False)
        box = np.array([0.75, 0.16 * h]) + np.stack([0.17 * np.cos(angle), 0.14 * np.sin(angle)], axis=1)
        pose.fill(box, canvas=canvas)
        lead = spline([(0.68, 0.14 * h), (0.3, 0.0), (0.1, 0.2 * h), (0.05, 0.55 * h), (0.25, 0.85 * h)])
        pose.lines(lead[None], canvas, width=0.018, value=220)
    return canvas


def expose(rng: np.random.Generator, attenuation: Plane, *, film: FilmParameters) -> Plane:
    """Return the film's grey values [H, W] in [0, 1]: ramp, window, shoulder of the curve, noise, blur."""
    size = attenuation.shape[0]
    ramp = rng.uniform(-film.gradient, film.gradient, size=2) / size
    axis = np.arange(size, dtype=np.float32) - size / 2
    attenuation = attenuation * (1 + np.float32(ramp[0]) * axis[None, :] + np.float32(ramp[1]) * axis[:, None])
    low, high, gamma = draw(rng, film.low), draw(rng, film.high), draw(rng, film.gamma)
    steps = np.clip((attenuation - np.float32(low)) * np.float32((LEVELS / 1.6) / (high - low)), 0, LEVELS - 1)
    grey = _curve(gamma)[steps.astype(np.int16)]
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), draw(rng, film.noise_blur) * size / 224)
    noise *= np.float32(draw(rng, film.noise) / max(float(noise[::4, ::4].std()), 1e-6))
    if film.uneven_noise:
        noise *= 0.4 + grey
    return cv2.GaussianBlur(grey, (0, 0), draw(rng, film.blur) * size / 224) + noise


def _curve(gamma: float) -> Plane:
    """Return the grey value [LEVELS] of attenuations from 0 to 1.6 windows."""
    grey = np.linspace(0, 1.6, LEVELS)
    # Film and detector tables flatten the dense end: 1.6 and above meet at white.
    grey = np.where(grey > 0.75, 0.75 + 0.25 * np.tanh((grey - 0.75) / 0.25), grey)
    return (grey**gamma).astype(np.float32)


def finish(rng: np.random.Generator, grey: Plane, *, film: FilmParameters) -> NDArray[np.uint8]:
    """Add borders and a side marker, and return the picture [H, W] of 8 bits."""
    size = grey.shape[0]
    if rng.uniform() < film.border:
        shade = 0.0 if rng.uniform() < 0.75 else 0.97
        for edge in np.nonzero(rng.uniform(size=4) < 0.6)[0]:
            wide = int(rng.uniform(0.01, 0.05) * size)
            np.rot90(grey, int(edge))[: max(wide, 1)] = shade
    if rng.uniform() < film.marker:
        # L stands on the patient's left, which is the viewer's right.
        left = rng.uniform() < 0.65
        x = rng.uniform(0.88, 0.93) if left else rng.uniform(0.03, 0.07)
        corner = np.array([x, rng.uniform(0.04, 0.25)]) * size
        tall = float(rng.uniform(0.045, 0.07)) * size
        # Drawn by hand: text rendering differs between versions of OpenCV.
        strokes = LETTERS["L" if left else "R"]
        layer = np.zeros(grey.shape, dtype=np.uint8)
        fixed = [np.round((corner + tall * np.array(stroke)) * 16).astype(np.int32) for stroke in strokes]
        cv2.polylines(
            layer, fixed, isClosed=False, color=250, thickness=max(1, round(size / 130)), lineType=cv2.LINE_AA, shift=4
        )
        grey = np.maximum(grey, layer.astype(np.float32) / np.float32(255))
    return np.clip(grey * 255 + 0.5, 0, 255).astype(np.uint8)
