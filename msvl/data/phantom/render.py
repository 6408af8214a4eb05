"""One study of the phantom: from three integers to a picture with its findings and masks. H, W: the picture's sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from msvl.data.phantom import bones
from msvl.data.phantom.anatomy import Anatomy, sample_anatomy
from msvl.data.phantom.film import devices, expose, finish
from msvl.data.phantom.findings import (
    Finding,
    Mask,
    collapsed,
    fluid,
    located,
    opacity,
    place_nodule,
    sample_findings,
)
from msvl.data.phantom.geometry import Canvas, Plane, Pose, draw
from msvl.data.phantom.parameters import PhantomParameters

TRIES = 8
LEAST_AREA = {"effusion": 0.07, "pneumothorax": 0.14, "consolidation": 0.16}
"""Visible area below which a finding is drawn again, larger or elsewhere, in squared chest units."""

PATIENT, STUDY = 1, 2
"""Purposes of a random stream: what stays with a patient, and what belongs to one study."""


@dataclass(frozen=True)
class Phantom:
    """A simulated radiograph."""

    image: Canvas
    """[H, W]."""
    findings: tuple[Finding, ...]
    regions: tuple[Mask, ...]
    """One [H, W] per finding, never empty."""
    lungs: Mask
    heart: Mask
    pose: Pose


@dataclass
class _Scene:
    """What is drawn so far; findings change it in turn."""

    anatomy: Anatomy
    pose: Pose
    lungs: dict[str, Canvas]
    heart: Canvas
    centre: Canvas
    """Heart and great vessels."""
    air: Plane
    """Share of the chest's depth that is air."""
    tissue: Plane
    """Share of the lung's markings that is left."""
    pleura: Plane
    """Visceral pleural lines."""
    extra: Plane
    """Attenuation that findings add to what a chest without air would have."""
    found: list[Finding] = field(default_factory=list)
    regions: list[Mask] = field(default_factory=list)

    def seen(self) -> Mask:
        """Return the part of both lungs that is not behind the heart."""
        return (cv2.max(self.lungs["left"], self.lungs["right"]) > 127) & (self.centre < 128)


def simulate(parameters: PhantomParameters, *, seed: int, patient: int, study: int, size: int) -> Phantom:
    """Draw one study: a pure function of its arguments.

    Args:
        parameters: The variant.
        seed: Of the whole phantom.
        patient: Index of the patient, whose anatomy all studies share.
        study: Index of the patient's study.
        size: Side of the picture in pixels.
    """
    person = np.random.Generator(np.random.PCG64([seed, parameters.code, patient, 0, PATIENT]))
    rng = np.random.Generator(np.random.PCG64([seed, parameters.code, patient, study, STUDY]))
    anatomy = sample_anatomy(person, parameters.body)
    planned = sample_findings(rng, parameters.findings)
    pose = Pose.sample(rng, parameters.pose, size=size, centre=0.52 * anatomy.lung_height)
    scene = _empty_chest(rng, anatomy, pose, ratio=_heart_ratio(rng, anatomy, planned, parameters))
    for finding in planned:
        _add(rng, scene, finding, parameters)
    attenuation = _attenuation(rng, scene, parameters)
    grey = finish(rng, expose(rng, attenuation, film=parameters.film), film=parameters.film)
    return Phantom(grey, tuple(scene.found), tuple(scene.regions), scene.seen(), scene.heart > 127, pose)


def _heart_ratio(
    rng: np.random.Generator, anatomy: Anatomy, planned: list[Finding], parameters: PhantomParameters
) -> float:
    for finding in planned:
        if finding.name == "cardiomegaly":
            return draw(rng, parameters.findings.heart_enlarged[finding.level])
    return anatomy.heart_normal


def _empty_chest(rng: np.random.Generator, anatomy: Anatomy, pose: Pose, *, ratio: float) -> _Scene:
    lungs = {name: pose.fill(lung.outline) for name, lung in anatomy.lungs.items()}
    both = cv2.max(lungs["left"], lungs["right"])
    heart = pose.fill(anatomy.heart(ratio, pose.yaw))
    centre = pose.fill(anatomy.upper_mediastinum(pose.yaw), canvas=heart.copy())
    # Lungs are thin at the apex, at the walls and in the corners, thick near the hila.
    air = pose.spread(both, 0.014) * pose.enlarge(np.float32(0.34) + pose.haze(both, 0.2, gain=0.66))
    air *= 1 - np.float32(rng.uniform(0.82, 0.95)) * pose.spread(centre, 0.016)
    empty = np.zeros_like(air)
    return _Scene(anatomy, pose, lungs, heart, centre, air, tissue=np.ones_like(air), pleura=empty, extra=empty.copy())


def _add(rng: np.random.Generator, scene: _Scene, finding: Finding, parameters: PhantomParameters) -> None:
    """Draw one finding into the scene and note its region."""
    pose, lung = scene.pose, scene.anatomy.lungs.get(finding.side)
    if finding.name == "cardiomegaly":
        region = scene.heart > 127
    elif finding.name == "nodule":
        finding, region = _add_nodule(rng, scene, finding, parameters)
    elif lung is None:
        raise AssertionError(f"{finding.name} has side {finding.side!r}, expected left or right")
    elif finding.name == "effusion":
        layer, region = _visible(
            scene, finding, lambda extra: pose.fill(fluid(rng, lung, finding, parameters.findings, extra=extra))
        )
        wet = pose.spread(layer, 0.03)
        scene.air *= 1 - np.float32(rng.uniform(0.9, 0.98)) * wet
        scene.extra += wet * pose.spread(
            scene.lungs[finding.side], 0.02, gain=draw(rng, parameters.findings.effusion_density)
        )
    elif finding.name == "pneumothorax":
        region = _add_pneumothorax(rng, scene, finding, parameters)
    else:
        region = _add_consolidation(rng, scene, finding, parameters)
    # A finding that stays hidden in spite of all tries is not part of the study.
    if region.any():
        scene.found.append(finding)
        scene.regions.append(region)


def _visible(scene: _Scene, finding: Finding, shape: Callable[[float], Canvas]) -> tuple[Canvas, Mask]:
    """Return the first shape that shows enough of itself beside heart and earlier findings, or else the best one.

    Args:
        scene: What is drawn so far.
        finding: The finding, with its side.
        shape: Draws a shape that grows with its argument, from 0.

    Returns:
        The shape's layer and its visible region, both [H, W].
    """
    free = (scene.lungs[finding.side] > 127) & (scene.centre < 128)
    for other, known in zip(scene.found, scene.regions, strict=True):
        if other.name != "cardiomegaly":
            free &= ~known
    tried = []
    for attempt in range(TRIES):
        layer = shape(0.03 * attempt)
        tried.append((layer, (layer > 127) & free))
        if tried[-1][1].sum() >= LEAST_AREA[finding.name] * scene.pose.unit**2:
            return tried[-1]
    return max(tried, key=lambda pair: int(pair[1].sum()))


def _add_pneumothorax(rng: np.random.Generator, scene: _Scene, finding: Finding, parameters: PhantomParameters) -> Mask:
    pose, lung = scene.pose, scene.anatomy.lungs[finding.side]
    tried = []

    def gap_layer(extra: float) -> Canvas:
        outline = collapsed(rng, lung, finding, parameters.findings, extra=extra)
        remaining = pose.fill(outline)
        tried.append((cv2.subtract(scene.lungs[finding.side], remaining), outline, remaining))
        return tried[-1][0]

    gap, region = _visible(scene, finding, gap_layer)
    outline, remaining = next((outline, remaining) for layer, outline, remaining in tried if layer is gap)
    rim = pose.spread(gap, 0.006)
    scene.tissue *= 1 - rim
    # The gap is blacker than lung; the lung that is left holds less air.
    visible = 1 - pose.spread(scene.centre, 0.012)
    scene.air += visible * rim * np.float32(draw(rng, parameters.findings.pneumothorax_lucency))
    scene.air *= 1 - np.float32(draw(rng, parameters.findings.pneumothorax_collapse)) * pose.spread(
        cv2.min(scene.lungs[finding.side], remaining), 0.01
    )
    line = pose.canvas()
    pose.lines(outline[None], line, width=0.018)
    scene.pleura += pose.spread(cv2.min(line, cv2.dilate(gap, np.ones((3, 3), np.uint8))), 0.004)
    return region


def _add_consolidation(
    rng: np.random.Generator, scene: _Scene, finding: Finding, parameters: PhantomParameters
) -> Mask:
    pose = scene.pose
    lung, numbers = scene.anatomy.lungs[finding.side], parameters.findings
    shape, region = _visible(scene, finding, lambda extra: pose.fill(opacity(rng, lung, finding, numbers, extra=extra)))
    density = np.float32(draw(rng, numbers.consolidation_density))
    patches = pose.enlarge(rng.uniform(0.72, 1.0, size=(14, 14)).astype(np.float32))
    scene.air *= 1 - density * patches * pose.spread(shape, 0.045)
    return region


def _add_nodule(
    rng: np.random.Generator, scene: _Scene, finding: Finding, parameters: PhantomParameters
) -> tuple[Finding, Mask]:
    pose, numbers = scene.pose, parameters.findings
    free = scene.seen()
    for other, known in zip(scene.found, scene.regions, strict=True):
        if other.name != "cardiomegaly":
            free &= ~known
    shape, diameter, centre = place_nodule(rng, free, pose, finding=finding, parameters=numbers)
    layer = pose.fill(shape)
    scene.air *= 1 - np.float32(draw(rng, numbers.nodule_density)) * pose.spread(layer, 0.018)
    placed = located(finding, scene.anatomy.lung_height, diameter=diameter, centre=centre, cm=numbers.nodule_cm)
    return placed, layer > 127


def _attenuation(rng: np.random.Generator, scene: _Scene, parameters: PhantomParameters) -> Plane:
    """Return the whole body's attenuation [H, W]: about 0 beside the body, 0.3 in the lungs, 1 in the abdomen."""
    anatomy, pose, air = scene.anatomy, scene.pose, scene.air
    trunk = pose.fill(anatomy.torso())
    total = _flesh(rng, scene, trunk)
    texture = rng.standard_normal((pose.size // 4, pose.size // 4), dtype=np.float32)
    markings = pose.enlarge(texture * np.float32(draw(rng, parameters.film.texture)))
    markings += np.float32(anatomy.vessel_contrast) * bones.vessels(rng, anatomy, pose)
    markings *= scene.tissue
    markings += np.float32(0.18) * scene.pleura
    total += scene.extra
    total -= np.float32(rng.uniform(0.6, 0.74)) * air
    total += np.minimum(air * np.float32(1.3), 1) * markings
    # Beside the air of the lungs, ribs are hardly seen through the dense tissue.
    ribs = np.float32(anatomy.rib_contrast) * bones.ribs(anatomy, pose)
    total += ribs * (np.float32(0.3) + np.float32(0.8) * air)
    solid = cv2.addWeighted(
        bones.spine(anatomy, pose),
        rng.uniform(0.18, 0.4),
        bones.shoulders(anatomy, pose),
        6 * anatomy.rib_contrast,
        0.0,
    )
    solid = cv2.scaleAdd(devices(rng, anatomy, pose, film=parameters.film), 0.9, solid)
    total += pose.spread(solid, 0.011, gain=0.4)
    total -= bones.airways(anatomy, pose, bend=float(rng.normal(0, 0.03)), gain=float(rng.uniform(0.1, 0.2)))
    return total


def _flesh(rng: np.random.Generator, scene: _Scene, trunk: Canvas) -> Plane:
    """Return the attenuation of trunk and arms without their bones [H, W], as if the lungs were full of water."""
    anatomy, pose = scene.anatomy, scene.pose
    depth = pose.haze(trunk, 0.45)
    smooth = np.float32(0.1) + np.float32(0.62) * depth * depth + _belly(anatomy, pose)
    smooth += pose.haze(scene.centre, 0.03, gain=float(rng.uniform(0.0, 0.1)))
    sag, weight = float(rng.uniform(-0.06, 0.1)), np.float32(rng.uniform(0.08, 0.2))
    if anatomy.breasts:
        smooth += weight * bones.breasts(anatomy, pose, sag)
    smooth -= np.float32(rng.uniform(0.1, 0.3)) * bones.bowel(rng, anatomy, pose)
    limbs = pose.fill(anatomy.arm("left"), anatomy.arm("right"))
    limb_depth = np.float32(0.42) * (1 - np.float32(0.75) * depth) * pose.haze(limbs, 0.1)
    total = pose.spread(trunk, 0.01) * pose.enlarge(smooth)
    total += pose.spread(limbs, 0.02) * pose.enlarge(limb_depth)
    return total


def _belly(anatomy: Anatomy, pose: Pose) -> Plane:
    """Return the extra depth [H / 4, W / 4] of the lower trunk, which grows from the middle of the chest downwards."""
    inverse = np.linalg.inv(pose.matrix[:, :2])
    axis = (np.arange(pose.size // 4) + 0.5) * 4
    along_x, along_y = inverse[1, 0] * (axis - pose.matrix[0, 2]), inverse[1, 1] * (axis - pose.matrix[1, 2])
    down = (along_y[:, None] + along_x[None, :]).astype(np.float32) / np.float32(anatomy.lung_height)
    return np.clip(np.float32(0.4) * (down - np.float32(0.45)), 0, np.float32(0.26))
