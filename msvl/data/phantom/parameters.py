"""Every number of the phantom, in two variants. Frozen: a test compares their digest with a constant.

Lengths are in chest units unless a name says otherwise: half the inner width of an average chest is 1. Pairs are ranges
that are drawn from uniformly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

Range = tuple[float, float]

FINDINGS = ("effusion", "pneumothorax", "consolidation", "cardiomegaly", "nodule")
"""The five findings, in the order of the label columns."""


@dataclass(frozen=True)
class PoseParameters:
    """Where the chest lies in the picture."""

    scale: Range = (0.325, 0.415)
    """Chest unit as a share of the picture's side."""
    stretch: Range = (0.92, 1.08)
    """Width against height."""
    shift: float = 0.06
    """Largest shift to each side, as a share of the side."""
    tilt_degrees: float = 7.0
    """Largest rotation in the picture's plane."""
    yaw: float = 0.14
    """Largest shift of structures in front against those behind (a patient turned to one side)."""


@dataclass(frozen=True)
class BodyParameters:
    """How bodies differ."""

    lung_height: Range = (1.45, 1.9)
    lung_width: Range = (0.92, 1.06)
    """Of each lung on its own."""
    dome: Range = (0.8, 0.9)
    """Height of the diaphragm's dome as a share of the lung's height."""
    flesh: Range = (0.12, 0.42)
    """Thickness of the chest wall's soft tissue at the side."""
    heart_normal: Range = (0.36, 0.465)
    """Cardiothoracic ratio without cardiomegaly."""
    heart_left_share: Range = (0.57, 0.74)
    """Share of the heart's width that lies left of the midline."""
    rib_width: Range = (0.055, 0.085)
    rib_contrast: Range = (0.05, 0.12)
    vessel_contrast: Range = (0.11, 0.24)
    mediastinum: Range = (0.15, 0.25)
    """Half width of the upper mediastinum."""
    arms_down: float = 0.4
    """Share of patients whose arms hang in the picture."""
    breasts: float = 0.4
    """Share of patients with breast shadows."""


@dataclass(frozen=True)
class FilmParameters:
    """Exposure, noise and what else is on the film."""

    gamma: Range = (0.8, 1.3)
    low: Range = (-0.17, 0.04)
    """Attenuation that becomes black."""
    high: Range = (1.02, 1.26)
    """Attenuation that becomes white."""
    gradient: float = 0.07
    """Largest brightness ramp across the picture."""
    noise: Range = (0.005, 0.015)
    """Standard deviation of the fine noise; 1 is the whole grey range."""
    noise_blur: Range = (0.35, 0.8)
    """Standard deviation of the fine noise's blur in pixels at 224."""
    texture: Range = (0.01, 0.024)
    """Standard deviation of the coarse texture in the lungs."""
    blur: Range = (0.35, 0.7)
    """Standard deviation of the whole picture's blur in pixels at 224."""
    border: float = 0.2
    """Share of pictures with a collimated border."""
    marker: float = 0.45
    """Share of pictures with a side marker."""
    leads: float = 0.2
    """Share of pictures with ECG leads."""
    tube: float = 0.12
    """Share of pictures with a catheter."""
    pacemaker: float = 0.04
    """Share of pictures with a pacemaker."""
    uneven_noise: bool = False
    """Whether noise grows with brightness (as with scatter) instead of being even."""


@dataclass(frozen=True)
class FindingParameters:
    """How often and how large findings are; sizes are shares of the lung's own height or width."""

    prevalence: float = 0.21
    """Of each finding, independently."""
    most: int = 3
    """Findings in one study."""
    effusion_height: tuple[Range, Range, Range] = ((0.31, 0.38), (0.41, 0.5), (0.55, 0.68))
    """Small, moderate, large: height of the fluid at the side."""
    effusion_bilateral: float = 0.25
    pneumothorax_gap: tuple[Range, Range, Range] = ((0.2, 0.26), (0.28, 0.36), (0.4, 0.52))
    """Small, moderate, large: the pleural line's distance from the chest wall."""
    pneumothorax_lucency: Range = (0.26, 0.36)
    """Air that the gap has beyond a lung's."""
    pneumothorax_collapse: Range = (0.12, 0.2)
    """Share of its air that the lung loses."""
    consolidation_radius: tuple[Range, Range, Range] = ((0.26, 0.31), (0.32, 0.38), (0.4, 0.48))
    """Small, moderate, large: in lung widths."""
    consolidation_density: Range = (0.6, 0.88)
    """Share of the air that is replaced."""
    effusion_density: Range = (0.05, 0.11)
    """Attenuation that fluid adds to a chest without air: it stands out from the liver."""
    heart_enlarged: tuple[Range, Range, Range] = ((0.56, 0.59), (0.6, 0.64), (0.65, 0.71))
    """Mild, moderate, severe: cardiothoracic ratio."""
    nodule_diameter: Range = (0.29, 0.4)
    """In chest units: about 24 to 33 pixels in a picture of 224."""
    nodule_density: Range = (0.85, 1.1)
    nodule_cm: float = 6.5
    """Stated centimetres per chest unit. The true scale is about 14: nodules are drawn at over twice their stated size, so that they
    survive a picture of 112 pixels."""


@dataclass(frozen=True)
class PhantomParameters:
    """One variant of the phantom."""

    name: str
    code: int
    """Enters the seed, so that variants draw different patients."""
    style: str
    """Prose: `standard` or `shifted`."""
    pose: PoseParameters = PoseParameters()
    body: BodyParameters = BodyParameters()
    film: FilmParameters = FilmParameters()
    findings: FindingParameters = FindingParameters()

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers as JSON values."""
        return asdict(self)


STANDARD = PhantomParameters(name="standard", code=1, style="standard")
"""What the quickstart trains and tests on."""

SHIFTED = PhantomParameters(
    name="shifted",
    code=2,
    style="shifted",
    pose=PoseParameters(scale=(0.3, 0.37), stretch=(0.86, 1.0), shift=0.08, tilt_degrees=10.0, yaw=0.2),
    body=replace(BodyParameters(), lung_height=(1.35, 1.75), flesh=(0.2, 0.5), arms_down=0.85, breasts=0.55),
    film=FilmParameters(
        gamma=(1.15, 1.9),
        low=(-0.3, -0.05),
        high=(1.0, 1.3),
        gradient=0.2,
        noise=(0.015, 0.035),
        noise_blur=(0.7, 1.2),
        texture=(0.015, 0.035),
        blur=(0.8, 1.3),
        border=0.5,
        marker=0.7,
        leads=0.6,
        tube=0.4,
        pacemaker=0.1,
        uneven_noise=True,
    ),
)
"""Another hospital: portable pictures with scatter and devices, other exposure, another way of reporting."""

VARIANTS = {"standard": STANDARD, "shifted": SHIFTED}
"""Name -> parameters."""
