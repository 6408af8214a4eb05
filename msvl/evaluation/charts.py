"""Small charts as inline SVG without script: loss curves, and where a figure lies between chance and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 28
MOST_POINTS = 400
"""Points drawn per curve; longer runs are thinned evenly."""


def line_chart(points: Points, *, label: str, colour: str) -> str:
    """Return an SVG of one curve over steps, its ends marked.

    Args:
        points: (step, value), ascending steps; values that are not finite are left out.
        label: What a screen reader says.
        colour: Of the curve.
    """
    kept = [(x, y) for x, y in points if math.isfinite(y)]
    if not kept:
        return f'<p class="quiet">no finite values of {escape(label)}</p>'
    kept = _thinned(kept)
    low_x, high_x = kept[0][0], max(kept[-1][0], kept[0][0] + 1)
    ticks = nice_ticks(min(y for _, y in kept), max(y for _, y in kept))
    low_y, high_y = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / (high_x - low_x)
        up = (y - low_y) / (high_y - low_y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_grid_line(place(low_x, tick)[1], tick) for tick in ticks]
    for step, anchor in ((low_x, "start"), (high_x, "end")):
        x = place(step, low_y)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}" class="tick">{step:,.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle" class="tick">step</text>')
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in kept))
    parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>')
    end_x, end_y = place(*kept[-1])
    parts.append(f'<circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="3.2" fill="{colour}"/>')
    said = f"{label}: from {kept[0][1]:.3g} at step {kept[0][0]:,.0f} to {kept[-1][1]:.3g} at step {kept[-1][0]:,.0f}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}"><title>{escape(said)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _grid_line(y: float, tick: float) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end" class="tick">{tick:g}</text>'
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = math.ceil(len(points) / MOST_POINTS)
    return points[::stride] if (len(points) - 1) % stride == 0 else [*points[::stride], points[-1]]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round, evenly spaced values that enclose [low, high], at least two."""
    span = high - low or max(abs(high), 1.0)
    raw = span / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    return [round(index * step, 12) for index in range(first, last + 1)]


TRACK_WIDTH, TRACK_HEIGHT = 260, 34


def track(
    value: float,
    bounds: Sequence[float] | None,
    *,
    scale: tuple[float, float],
    chance: float | None = None,
    untrained: float | None = None,
) -> str:
    """Return an SVG scale: the figure, its interval as a bar, the untrained model as a ring, chance as a tick."""
    low = min(scale[0], value, *(item for item in (chance, untrained) if item is not None))
    high = max(scale[1], value, *(bounds or ()))

    def place(x: float) -> float:
        return 8 + (x - low) / (high - low) * (TRACK_WIDTH - 16)

    middle = 12
    parts = [f'<line x1="8" x2="{TRACK_WIDTH - 8}" y1="{middle}" y2="{middle}" class="rail"/>']
    if chance is not None:
        x = place(chance)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 7}" y2="{middle + 7}" class="chance"/>')
    if bounds is not None:
        left, right = place(bounds[0]), place(bounds[1])
        parts.append(
            f'<rect x="{left:.1f}" width="{max(right - left, 1):.1f}" y="{middle - 4}" height="8" rx="4" class="bar"/>'
        )
    if untrained is not None:
        parts.append(f'<circle cx="{place(untrained):.1f}" cy="{middle}" r="4.5" class="ring"/>')
    parts.append(f'<circle cx="{place(value):.1f}" cy="{middle}" r="5" class="dot"/>')
    for end, anchor, x in ((low, "start", 8), (high, "end", TRACK_WIDTH - 8)):
        parts.append(f'<text x="{x}" y="{TRACK_HEIGHT - 2}" text-anchor="{anchor}" class="tick">{end:.2g}</text>')
    return f'<svg viewBox="0 0 {TRACK_WIDTH} {TRACK_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'
