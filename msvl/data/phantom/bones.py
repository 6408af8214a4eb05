"""Layers of the normal chest that lie over or under the lungs: bones, airways, vessels and soft-tissue shadows."""

from __future__ import annotations

import cv2
import numpy as np

from msvl.data.phantom.anatomy import Anatomy, Lung
from msvl.data.phantom.geometry import SHIFT, SIDES, Canvas, Plane, Points, Pose, spline


def ribs(anatomy: Anatomy, pose: Pose) -> Plane:
    """Return the ribs [H, W]: the posterior parts with bright edges, the anterior parts fainter and steeper."""
    back, front = pose.canvas(), pose.canvas()
    courses = [_rib(anatomy, lung, index=index) for lung in anatomy.lungs.values() for index in range(11)]
    flip = np.repeat([[lung.sign, 1.0] for lung in anatomy.lungs.values()], 11, axis=0)[:, None]
    posterior = spline([behind for behind, _ in courses], steps=4) * flip
    anterior = spline([before for _, before in courses], steps=4) * flip + np.array([0.8 * pose.yaw, 0.0])
    # The first rib's front lies under the clavicle, the last ones have none.
    anterior = anterior.reshape(2, 11, *anterior.shape[1:])[:, 1:8].reshape(14, *anterior.shape[1:])
    width = anatomy.rib_width
    pose.lines(posterior, back, width=width)
    pose.lines(posterior, back, width=width - 2.2 / pose.unit, value=150)
    pose.lines(anterior, front, width=1.15 * width)
    pose.lines(anterior, front, width=1.15 * width - 2.0 / pose.unit, value=185)
    return pose.spread(cv2.addWeighted(back, 0.62, front, 0.38, 0.0), 0.01, gain=1.6)


def _rib(anatomy: Anatomy, lung: Lung, *, index: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return the knots of one rib's posterior and anterior centre lines, of five and four points, on the left side."""
    h, slope = anatomy.lung_height, anatomy.rib_slope
    start = (-0.06 + 0.093 * index) * h
    turn = start + slope * (0.6 + 0.07 * index)
    wall = max(lung.wall(turn), 0.5) + 0.03
    lift = 0.03 if index > 1 else 0.0
    fall = turn - start
    behind = [
        (0.1, start),
        (0.3 * wall, start - lift),
        (0.62 * wall, start + 0.17 * fall),
        (0.9 * wall, start + 0.58 * fall),
        (wall, turn),
    ]
    drop = slope * (0.6 + 0.08 * index)
    before = [
        (wall, turn),
        (0.97 * wall, turn + 0.35 * drop),
        (0.78 * wall, turn + 0.8 * drop),
        (max(0.3, 0.5 * wall), turn + drop),
    ]
    return behind, before


def spine(anatomy: Anatomy, pose: Pose) -> Canvas:
    """Return the vertebrae [H, W]: boxes with bright plates, narrower towards the neck."""
    canvas, plates = pose.canvas(), pose.canvas()
    pitch = anatomy.lung_height / 11.5
    steps = np.arange(-9, 25)[:, None, None]
    half, top = 0.1 + 0.0022 * steps, np.array([-0.3 * pose.yaw, 0.0]) + steps * np.array([0.0, pitch])
    corners = np.array([(-1, 0), (1, 0), (0.92, 0.45), (1, 0.86), (-1, 0.86), (-0.92, 0.45)])
    bodies = top + corners * np.concatenate([half, half * 0 + pitch], axis=2)
    cv2.fillPoly(canvas, list(pose.fixed(bodies)), 255, cv2.LINE_AA, SHIFT)
    pose.lines(top + np.array([(-1, 0), (1, 0)]) * half, plates, width=0.018)
    pose.lines(top + np.array([(0, 0.35), (0, 0.75)]) * pitch, plates, width=0.025)
    return cv2.addWeighted(canvas, 0.66, plates, 0.34, 0.0)


def shoulders(anatomy: Anatomy, pose: Pose) -> Canvas:
    """Return clavicles, scapulae, humeri [H, W]."""
    canvas, faint = pose.canvas(), pose.canvas()
    s, h, shift = anatomy.shoulder, anatomy.lung_height, np.array([0.9 * pose.yaw, 0.0])
    for sign in SIDES.values():
        flip = np.array([sign, 1.0])
        clavicle = (
            spline([(0.1, 0.16), (0.3, 0.07), (0.62, 0.06 - 0.4 * s), (0.95, -0.04 - s), (1.2, 0.02 - s)], steps=5)
            * flip
        )
        pose.lines((clavicle + shift)[None], canvas, width=0.085, value=230)
        pose.lines((clavicle + shift)[None], canvas, width=0.085 - 2.4 / pose.unit, value=120)
        blade = [(1.2, 0.08), (0.98, 0.14 * h), (0.9, 0.3 * h), (0.98, 0.47 * h), (1.12, 0.3 * h), (1.22, 0.1 * h)]
        edge = spline(blade, closed=True, steps=4) * flip
        pose.fill(edge, canvas=faint, value=80)
        pose.lines(edge[None, 4:14], faint, width=0.02, value=190)
        head = np.array([1.34 + 0.1 * anatomy.flesh, 0.16 - 0.5 * s])
        circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ball = head + 0.13 * np.stack([np.cos(circle), np.sin(circle)], axis=1)
        elbow = np.array([1.68 + 0.3 * anatomy.flesh, 2.6]) if anatomy.arms_down else np.array([2.4, 1.2])
        shaft = np.stack([head, elbow])
        pose.lines((shaft * flip)[None], canvas, width=0.14, value=190)
        pose.lines((shaft * flip)[None], canvas, width=0.14 - 3.0 / pose.unit, value=110)
        pose.fill(ball * flip, canvas=canvas, value=190)
    return cv2.addWeighted(canvas, 0.65, faint, 0.35, 0.0)


def airways(anatomy: Anatomy, pose: Pose, *, bend: float, gain: float) -> Plane:
    """Return trachea and main bronchi [H, W] from 0 to `gain`; `bend` moves the trachea's lower end sideways."""
    h, canvas = anatomy.lung_height, pose.canvas()
    carina = np.array([bend + 0.2 * pose.yaw, 0.37 * h])
    trachea = spline([(0.0, -1.2), (0.15 * bend, -0.2), (bend + 0.2 * pose.yaw, 0.15 * h), carina], steps=5)
    pose.lines(trachea[None], canvas, width=0.14, value=255)
    branches = np.array([[carina, carina + (sign * 0.26, 0.1 * h)] for sign in SIDES.values()])
    pose.lines(branches, canvas, width=0.07, value=130)
    return pose.spread(canvas, 0.02, gain=gain)


def vessels(rng: np.random.Generator, anatomy: Anatomy, pose: Pose) -> Plane:
    """Return the hila and the branching vessels of both lungs [H, W], not yet cut to the lungs."""
    canvas = pose.canvas()
    for lung in anatomy.lungs.values():
        hilum = np.array([0.16 + 0.2 * lung.sign * pose.yaw, (0.43 if lung.sign > 0 else 0.47) * anatomy.lung_height])
        heading = np.linspace(-1.5, 1.45, 11) + rng.normal(0, 0.12, size=11)
        roots = hilum + rng.normal(0, 1, size=(11, 2)) * np.array([0.02, 0.07])
        trunks = _branches(rng, roots, heading, length=0.15)
        starts = trunks[:, [1, 2, 4]].reshape(-1, 2)
        twigs = _branches(rng, starts, heading.repeat(3) + np.tile([-0.7, 0.6, -0.5], 11), length=0.09)
        flip = np.array([lung.sign, 1.0])
        pose.lines(twigs[:, 3:] * flip, canvas, width=0.008, value=60)
        pose.lines(twigs[:, :4] * flip, canvas, width=0.01, value=105)
        pose.lines(trunks[:, 3:] * flip, canvas, width=0.014, value=120)
        pose.lines(trunks[:, 1:4] * flip, canvas, width=0.025, value=175)
        pose.lines(trunks[:, :2] * flip, canvas, width=0.045, value=210)
        spot = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        knob = hilum + np.array([0.03, 0.0]) + np.stack([0.06 * np.cos(spot), 0.12 * np.sin(spot)], axis=1)
        pose.fill(knob * flip, canvas=canvas, value=215)
    return pose.spread(canvas, 0.0085) + pose.enlarge(pose.haze(canvas, 0.07, gain=0.9))


def _branches(rng: np.random.Generator, starts: Points, heading: Points, *, length: float) -> Points:
    """Return winding curves [n, 7, 2] that start at `starts` [n, 2] with `heading` [n] (0 points sideways)."""
    count = len(starts)
    turns = rng.normal(0, 0.2, size=(count, 6)).cumsum(axis=1) + rng.normal(0, 0.09, size=(count, 1))
    angle = heading[:, None] * (1 - 0.04 * np.arange(6)) + turns
    steps = length * rng.uniform(0.65, 1.15, size=(count, 1, 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=2)
    return np.concatenate([starts[:, None], starts[:, None] + steps.cumsum(axis=1)], axis=1)


def breasts(anatomy: Anatomy, pose: Pose, sag: float) -> Plane:
    """Return the breast shadows [H / 4, W / 4]."""
    canvas = pose.canvas()
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    r = anatomy.breasts
    for sign in SIDES.values():
        centre = np.array([sign * 0.68, (0.66 + sag) * anatomy.lung_height])
        pose.fill(centre + np.stack([r * np.cos(angle), 1.05 * r * np.sin(angle)], axis=1), canvas=canvas)
    return np.float32(0.75) * pose.haze(canvas, 0.16) * (np.float32(0.35) + pose.haze(canvas, 0.025))


def bowel(rng: np.random.Generator, anatomy: Anatomy, pose: Pose) -> Plane:
    """Return the stomach's bubble and some bowel gas below the diaphragm [H / 4, W / 4]."""
    canvas = pose.canvas()
    lung = anatomy.lungs["left"]
    dome = float(lung.diaphragm[:, 1].min())
    angle = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    for index in range(int(rng.integers(0, 3))):
        high = 0.16 if index == 0 else float(rng.uniform(0.3, 0.6))
        x = float(rng.uniform(0.3, 0.65)) if index == 0 else float(rng.uniform(-0.3, 0.9))
        wide, tall = rng.uniform(0.08, 0.24), rng.uniform(0.05, 0.1)
        pose.fill(
            np.array([x, dome + high + tall]) + np.stack([wide * np.cos(angle), tall * np.sin(angle)], axis=1),
            canvas=canvas,
        )
    return pose.haze(canvas, 0.02)
