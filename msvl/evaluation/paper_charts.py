"""Charts of the tables' page as inline SVG: figures by share of the labels, and reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from msvl.evaluation.charts import nice_ticks

SIDE = 220
MARGIN = 34


def ratio_chart(figures: Mapping[str, Any], figure: str, ratios: Sequence[str] = ("1", "10", "100")) -> str:
    """Return an SVG of a figure at 1, 10 and 100 % of the labels with its intervals, the untrained twin dashed."""
    own = [figures[f"{figure}_at_{ratio}"] for ratio in ratios]
    bounds = [figures.get(f"{figure}_at_{ratio}_interval") or (value, value) for ratio, value in zip(ratios, own, strict=True)]  # fmt: skip
    twin = [figures.get(f"{figure}_at_{ratio}_untrained") for ratio in ratios]
    seen = [*own, *(end for pair in bounds for end in pair), *(value for value in twin if value is not None)]
    ticks = nice_ticks(min(seen), max(seen))
    low, high = ticks[0], ticks[-1]
    xs = [MARGIN + 20 + place * (SIDE - MARGIN - 40) / (len(ratios) - 1) for place in range(len(ratios))]

    def height(value: float) -> float:
        return SIDE - MARGIN - (value - low) / (high - low) * (SIDE - 2 * MARGIN)

    parts = [_rule(height(tick), f"{tick:g}") for tick in ticks]
    parts += [f'<text x="{x:.1f}" y="{SIDE - 12}" text-anchor="middle" class="tick">{ratio} %</text>' for x, ratio in zip(xs, ratios, strict=True)]  # fmt: skip
    for x, (bottom, top) in zip(xs, bounds, strict=True):
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{height(bottom):.1f}" y2="{height(top):.1f}"'
        parts.append(f'<line {ends} stroke="#0f6a8b" stroke-width="5" opacity="0.35"/>')
    parts.append(_line(xs, [height(value) for value in own], "#0f6a8b", ""))
    if all(value is not None for value in twin):
        parts.append(_line(xs, [height(value) for value in twin if value is not None], "#777777", "4 3"))
    said = ", ".join(f"{value:.3f} at {ratio} %" for ratio, value in zip(ratios, own, strict=True))
    return _svg(parts, said)


def reliability_chart(said: Sequence[float], happened: Sequence[float], count: Sequence[float]) -> str:
    """Return an SVG of the share of positives against the mean probability per bin; larger dots hold more images.

    Args:
        said: Mean probability per bin; anything where the bin is empty.
        happened: Share of positives.
        count: Images per bin.
    """
    inner = SIDE - 2 * MARGIN

    def place(across: float, up: float) -> tuple[float, float]:
        return MARGIN + across * inner, SIDE - MARGIN - up * inner

    parts = [_rule(place(0, tick)[1], f"{tick:g}") for tick in (0.0, 0.5, 1.0)]
    (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#999999" stroke-dasharray="4 3"/>')
    most = max(count, default=1) or 1
    words = []
    for probability, share, images in zip(said, happened, count, strict=True):
        if images:
            x, y = place(probability, share)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 6 * (images / most) ** 0.5:.1f}" fill="#0f6a8b" opacity="0.75"/>')  # fmt: skip
            words.append(f"said {probability:.2f}, happened {share:.2f}")
    parts.append(f'<text x="{SIDE / 2:.0f}" y="{SIDE - 8}" text-anchor="middle" class="tick">probability</text>')
    return _svg(parts, "; ".join(words))


def group_chart(values: Mapping[str, float], bounds: Mapping[str, Sequence[float] | None], whole: float | None) -> str:
    """Return an SVG of a figure per group, with its interval where there is one; dashed: of all images.

    Args:
        values: Group -> figure.
        bounds: Group -> interval.
        whole: The figure of all images, where it is known.
    """
    seen = [
        *values.values(),
        *(end for own in bounds.values() if own for end in own),
        *([] if whole is None else [whole]),
    ]
    ticks = nice_ticks(min(seen), max(seen))
    width, left, row = 320, 120, 20
    height = row * len(values) + 30

    def across(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - 20)

    parts = []
    for tick in ticks:
        x = across(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 24}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" class="tick">{tick:g}</text>')
    if whole is not None:
        x = across(whole)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 24}" stroke="#777777" stroke-dasharray="4 3"/>')  # fmt: skip
    for place, (group, value) in enumerate(values.items()):
        y = row * place + 15
        parts.append(f'<text x="{left - 8}" y="{y + 3.5:.1f}" text-anchor="end" class="tick">{escape(group)}</text>')
        own = bounds.get(group)
        if own:
            parts.append(f'<line x1="{across(own[0]):.1f}" x2="{across(own[1]):.1f}" y1="{y}" y2="{y}" stroke="#0f6a8b" stroke-width="5" opacity="0.35"/>')  # fmt: skip
        parts.append(f'<circle cx="{across(value):.1f}" cy="{y}" r="3.5" fill="#0f6a8b"/>')
    said = escape(", ".join(f"{group} {value:.3f}" for group, value in values.items()))
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}"><title>{said}</title>{"".join(parts)}</svg>'  # fmt: skip


def _rule(y: float, text: str) -> str:
    return (
        f'<line x1="{MARGIN}" x2="{SIDE - 6}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{MARGIN - 5}" y="{y + 3.5:.1f}" text-anchor="end" class="tick">{text}</text>'
    )


def _line(xs: Sequence[float], ys: Sequence[float], colour: str, dash: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in zip(xs, ys, strict=True))
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>{dots}'
    )


def _svg(parts: Sequence[str], said: str) -> str:
    text = escape(said)
    return (
        f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{text}"><title>{text}</title>{"".join(parts)}</svg>'
    )
