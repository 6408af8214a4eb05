"""The five findings: which ones a study has, and the shapes that they take in the lungs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from msvl.data.phantom.anatomy import Lung
from msvl.data.phantom.geometry import Points, Pose, draw, spline
from msvl.data.phantom.parameters import FINDINGS, FindingParameters

SEVERITIES = ("small", "moderate", "large")
ZONES = ("upper", "middle", "lower")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """One finding in words: what a report may say about it."""

    name: str
    side: str = ""
    """`left` or `right`; empty for the heart."""
    zone: str = ""
    """`upper`, `middle` or `lower`; empty where the finding has no zone."""
    severity: str = "moderate"
    """`small` (the heart: mild), `moderate` or `large` (the heart: severe)."""
    size_cm: float = 0.0
    """Stated diameter of a nodule."""

    @property
    def level(self) -> int:
        """Return the severity as 0, 1 or 2."""
        return SEVERITIES.index(self.severity)


def sample_findings(rng: np.random.Generator, parameters: FindingParameters) -> list[Finding]:
    """Draw what a study shows: each finding on its own, at most `parameters.most` kinds; places do not collide."""
    present = [name for name in FINDINGS if rng.uniform() < parameters.prevalence]
    while len(present) > parameters.most:
        present.pop(int(rng.integers(len(present))))
    found: list[Finding] = []
    for name in present:
        severity = SEVERITIES[int(rng.integers(3))]
        side = ("right", "left")[int(rng.integers(2))]
        if name == "effusion":
            found.append(Finding(name, side, "", severity))
            if rng.uniform() < parameters.effusion_bilateral:
                other = SEVERITIES[int(rng.integers(3))]
                found.append(Finding(name, "left" if side == "right" else "right", "", other))
        elif name == "consolidation":
            places = _free_places(found)
            side, zone = places[int(rng.integers(len(places)))]
            found.append(Finding(name, side, zone, severity))
        elif name == "nodule":
            found.append(Finding(name, severity=SEVERITIES[2 * int(rng.integers(2))]))
        else:
            found.append(Finding(name, "" if name == "cardiomegaly" else side, "", severity))
    return found


def _free_places(found: list[Finding]) -> list[tuple[str, str]]:
    """Return the (side, zone) pairs that no earlier finding covers."""
    covered = set()
    for finding in found:
        if finding.name == "effusion":
            covered |= {(finding.side, zone) for zone in ZONES[2 - (finding.level > 0) :]}
        if finding.name == "pneumothorax":
            covered |= {(finding.side, zone) for zone in ZONES[: 1 + finding.level]}
    places = [(side, zone) for side in ("right", "left") for zone in ZONES if (side, zone) not in covered]
    return places or [("right", "middle"), ("left", "middle")]


def fluid(
    rng: np.random.Generator, lung: Lung, finding: Finding, parameters: FindingParameters, *, extra: float = 0.0
) -> Points:
    """Return the region [n, 2] below a meniscus that climbs at the chest wall; `extra` lifts it."""
    height = (draw(rng, parameters.effusion_height[finding.level]) + extra) * lung.height
    lateral = lung.height - height
    medial = min(lateral + float(rng.uniform(0.08, 0.2)) * lung.height, lung.height)
    share = np.linspace(0, 1.3, 24)
    curve = medial - (medial - lateral) * np.minimum(share, 1.15) ** float(rng.uniform(2.0, 4.0))
    top = np.stack([lung.sign * share * lung.width, curve], axis=1)
    bottom = np.array([[lung.sign * 1.3 * lung.width, lung.height + 0.5], [0.0, lung.height + 0.5]])
    return np.concatenate([top, bottom])


def collapsed(
    rng: np.random.Generator, lung: Lung, finding: Finding, parameters: FindingParameters, *, extra: float = 0.0
) -> Points:
    """Return the outline [n, 2] of a lung that has come away from the chest wall at its top and side; `extra` widens the gap."""
    gap = draw(rng, parameters.pneumothorax_gap[finding.level]) + extra
    reach = float(rng.uniform(0.75, 1.0)) if finding.level else float(rng.uniform(0.55, 0.8))
    points = lung.outline.copy()
    x, y = np.abs(points[:, 0]) / lung.width, points[:, 1] / lung.height
    fade = np.clip((reach - y) / (0.45 * reach), 0, 1)
    sideways = gap * fade * np.clip((x - 0.2) / 0.3, 0, 1)
    down = (0.25 + gap) * float(rng.uniform(0.45, 0.7)) * np.clip(1 - y / 0.5, 0, 1)
    points[:, 0] -= lung.sign * sideways * lung.width
    points[:, 1] += down * lung.height
    return points


def opacity(
    rng: np.random.Generator, lung: Lung, finding: Finding, parameters: FindingParameters, *, extra: float = 0.0
) -> Points:
    """Return the ragged outline [n, 2] of a consolidation in its zone; `extra` widens it."""
    radius = (draw(rng, parameters.consolidation_radius[finding.level]) + 0.5 * extra) * lung.width
    third = ZONES.index(finding.zone)
    low, high = ((0.16, 0.29), (0.4, 0.56), (0.68, 0.8))[third]
    y = float(rng.uniform(low, high)) * lung.height
    wall = lung.wall(y)
    x = lung.sign * float(rng.uniform(0.42, 0.75)) * wall
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    waves = sum(rng.normal(0, 0.13) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in range(2, 6))
    wide, tall = float(rng.uniform(0.85, 1.15)), float(rng.uniform(0.8, 1.1))
    around = np.stack([wide * np.cos(angle), tall * np.sin(angle)], axis=1) * (1 + waves)[:, None] * radius
    return spline(np.array([x, y]) + around, closed=True, steps=3)


def place_nodule(
    rng: np.random.Generator, free: Mask, pose: Pose, *, finding: Finding, parameters: FindingParameters
) -> tuple[Points, float, tuple[float, float]]:
    """Choose a place in `free` [H, W] where the nodule's disc fits.

    Returns:
        Its ragged outline in chest coordinates, its diameter, and its centre.
    """
    low, high = parameters.nodule_diameter
    middle = 0.5 * (low + high)
    diameter = draw(rng, (low, middle) if finding.severity == "small" else (middle, high))
    room = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 3)
    wanted = min(0.55 * diameter * pose.unit, 0.9 * float(room.max()))
    rows, columns = np.nonzero(room >= wanted)
    pick = int(rng.integers(len(rows)))
    x, y = pose.chest((columns[pick] + 0.5, rows[pick] + 0.5))
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    bumps = sum(rng.normal(0, 0.035) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in (2, 3, 4))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + bumps)[:, None]
    return spline(np.array([x, y]) + 0.5 * diameter * circle, closed=True, steps=2), diameter, (x, y)


def located(
    finding: Finding, lung_height: float, *, diameter: float, centre: tuple[float, float], cm: float
) -> Finding:
    """Return the nodule's finding with the side, zone and size of the place that was chosen."""
    x, y = centre
    zone = ZONES[min(2, max(0, int(3 * y / lung_height)))]
    return replace(finding, side="left" if x > 0 else "right", zone=zone, size_cm=round(diameter * cm, 1))
