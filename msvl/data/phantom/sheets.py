"""Pictures of the phantom for the documentation: its findings, itself beside real radiographs, and grey-level statistics.

Needs matplotlib for the curves; nothing else in the package imports this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from msvl.data.phantom.findings import Finding, Mask
from msvl.data.phantom.geometry import Points
from msvl.data.phantom.grammar import HEART_SEVERITY
from msvl.data.phantom.parameters import FINDINGS, STANDARD, PhantomParameters
from msvl.data.phantom.render import Phantom, simulate

matplotlib.use("Agg")  # before pyplot: no window is ever needed
from matplotlib import pyplot as plt  # noqa: E402

SEED = 7
COLUMNS = 6
Grey = NDArray[np.uint8]


def contact_sheet(folder: Path, *, nih: Sequence[Path], real: Sequence[Path]) -> list[Path]:
    """Write the three pictures of the documentation.

    Args:
        folder: Where they go, docs/images.
        nih: NIH radiographs that are shown (no restriction on use; credit NIH Clinical Center).
        real: Radiographs that only enter the statistics.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"phantom-{name}.png" for name in ("findings", "beside-real", "statistics")]
    _write(files[0], findings_sheet())
    _write(files[1], beside_real(nih))
    _statistics(files[2], real)
    return files


def findings_sheet(*, side: int = 180) -> NDArray[np.uint8]:
    """Return one row per finding, smallest region first, outlined by its box: [rows, columns, 3]."""
    rows = []
    phantoms = list(_some(200))
    for name in FINDINGS:
        seen = [(drawn, item, region) for drawn in phantoms for item, region in _regions(drawn, name)]
        seen.sort(key=lambda triple: int(triple[2].sum()))
        picks = [seen[round(share * (len(seen) - 1))] for share in np.linspace(0, 1, COLUMNS)]
        tiles = [_outlined(drawn.image, region, side=side, words=_words(item)) for drawn, item, region in picks]
        rows.append(np.hstack(tiles))
    return np.vstack(rows)


def beside_real(nih: Sequence[Path], *, side: int = 200) -> NDArray[np.uint8]:
    """Return twelve phantoms in three rows, and one or two NIH radiographs beside them: [rows, columns, 3]."""
    drawn = [_tile(phantom.image, side) for phantom in _some(12)]
    blocks = [np.vstack([np.hstack(drawn[start : start + 4]) for start in range(0, 12, 4)])]
    gap = np.full((3 * side, 12, 3), 255, dtype=np.uint8)
    for path in nih[:2]:
        tall = 3 * side
        shown = _tile(square(path, tall), tall)
        _write_words(shown, "NIH Clinical Center")
        blocks += [gap, shown]
    return np.hstack(blocks)


def square(path: Path, side: int = 224) -> Grey:
    """Read a radiograph and return its central square [side, side]."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(f"{path} is not a picture that OpenCV can read")
    short = min(image.shape)
    top, left = (image.shape[0] - short) // 2, (image.shape[1] - short) // 2
    return np.asarray(
        cv2.resize(image[top : top + short, left : left + short], (side, side), interpolation=cv2.INTER_AREA)
    )


def power_spectrum(images: Grey) -> Points:
    """Return the mean power per radial frequency [size / 2], in cycles per picture, of windowed images [N, H, W]."""
    size = images.shape[1]
    window = np.outer(np.hanning(size), np.hanning(size))
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fftshift(np.fft.fft2(centred * window), axes=(1, 2))) ** 2).mean(axis=0)
    rows, columns = np.indices((size, size)) - size // 2
    radius = np.hypot(rows, columns).astype(int).reshape(-1)
    total, count = np.bincount(radius, power.reshape(-1)), np.bincount(radius)
    return (total / count)[: size // 2]


def _statistics(file: Path, real: Sequence[Path]) -> None:
    sets = {"phantom": np.stack([phantom.image for phantom in _some(max(60, len(real)))])}
    if real:
        sets[f"{len(real)} real radiographs"] = np.stack([square(path) for path in real])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for name, images in sets.items():
        shares, edges = np.histogram(images, bins=64, range=(0, 256), density=True)
        left.step(edges[:-1], shares, label=name)
        right.loglog(np.arange(1, images.shape[1] // 2), power_spectrum(images)[1:], label=name)
    left.set(xlabel="grey level", ylabel="density", title="Grey levels")
    right.set(xlabel="cycles per picture", ylabel="mean power", title="Radial power spectrum (224 px, Hann window)")
    left.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)


def _some(count: int, parameters: PhantomParameters = STANDARD) -> Iterator[Phantom]:
    for patient in range(count):
        yield simulate(parameters, seed=SEED, patient=patient, study=0, size=224)


def _regions(drawn: Phantom, name: str) -> list[tuple[Finding, Mask]]:
    return [(item, region) for item, region in zip(drawn.findings, drawn.regions, strict=True) if item.name == name]


def _words(finding: Finding) -> str:
    severity = HEART_SEVERITY[finding.severity] if finding.name == "cardiomegaly" else finding.severity
    return " ".join(word for word in (severity, finding.side, finding.zone, finding.name) if word)


def _outlined(image: Grey, region: Mask, *, side: int, words: str) -> Grey:
    tile = _tile(image, side)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    scale = side / len(image)
    corners = [(int(columns[pick] * scale), int(rows[pick] * scale)) for pick in (0, -1)]
    cv2.rectangle(tile, corners[0], corners[1], (60, 200, 255), 1, cv2.LINE_AA)
    _write_words(tile, words)
    return tile


def _tile(image: Grey, side: int) -> Grey:
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    small[[0, -1]] = small[:, [0, -1]] = 255
    return np.repeat(small[:, :, None], 3, axis=2)


def _write_words(tile: Grey, words: str) -> None:
    spot = (4, tile.shape[0] - 6)
    cv2.putText(tile, words, spot, cv2.FONT_HERSHEY_SIMPLEX, 0.33, (60, 200, 255), 1, cv2.LINE_AA)


def _write(file: Path, picture: Grey) -> None:
    # A palette of few greys keeps the files small; nobody measures on them.
    cv2.imwrite(str(file), picture // 4 * 4, [cv2.IMWRITE_PNG_COMPRESSION, 9])
