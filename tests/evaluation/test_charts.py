"""The charts of the report page."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from msvl.evaluation.charts import HEIGHT, MOST_POINTS, WIDTH, line_chart, nice_ticks, track
from msvl.evaluation.paper_charts import group_chart


@pytest.mark.parametrize(
    "low, high", [(0.0, 1.0), (3.9, 8.3), (0.6931, 0.6932), (2.0, 2.0), (-5.0, 1200.0), (0.0, 0.0)]
)
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low <= high <= ticks[-1]


def test_a_curve_is_valid_and_stays_inside() -> None:
    svg = ElementTree.fromstring(line_chart([(s, 8 * math.exp(-s / 50)) for s in range(200)], label="g", colour="#000"))
    points = next(item for item in svg if item.tag == "polyline").get("points") or ""
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    assert len(places) == 200
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert places[0][1] < places[-1][1]  # falls: further down the page


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    text = line_chart([(s, float(s)) for s in range(100_001)], label="g", colour="#000")
    assert len(re.findall(r"\d,\d", re.search(r'points="([^"]*)"', text).group(1))) <= MOST_POINTS + 1
    assert "to 1e+05 at step 100,000" in text


def test_values_that_are_not_finite_are_left_out() -> None:
    assert "nan" not in line_chart([(0, 1.0), (1, math.nan), (2, 0.5)], label="g", colour="#000")
    assert "no finite values" in line_chart([(0, math.nan)], label="g", colour="#000")


def test_a_single_point_can_be_drawn() -> None:
    ElementTree.fromstring(line_chart([(10, 3.0)], label="g", colour="#000"))


def test_a_track_places_value_interval_and_chance_in_order() -> None:
    svg = ElementTree.fromstring(track(0.9, [0.85, 0.95], scale=(0.4, 1.0), chance=0.5, untrained=0.52))
    by_class = {item.get("class"): item for item in svg}
    chance, ring, dot = (
        float(by_class[name].get(key)) for name, key in (("chance", "x1"), ("ring", "cx"), ("dot", "cx"))
    )
    assert chance < ring < float(by_class["bar"].get("x")) < dot


def test_a_track_grows_to_hold_a_value_outside_its_scale() -> None:
    svg = ElementTree.fromstring(track(3.5, [3.4, 3.6], scale=(-0.5, 2.0)))
    assert float(next(item for item in svg if item.get("class") == "dot").get("cx")) <= 260


def test_groups_stand_below_each_other_with_their_intervals() -> None:
    values = {"sex: F": 0.8, "sex: M": 0.9, "age: 80 & older": 0.7}
    svg = ElementTree.fromstring(group_chart(values, {"sex: F": (0.75, 0.85), "sex: M": None}, whole=0.82))
    dots = {item.get("cy"): float(item.get("cx") or 0) for item in svg if item.tag == "circle"}
    assert len(dots) == 3
    first, second, third = dots.values()
    assert third < first < second
    (bar,) = [item for item in svg if item.tag == "line" and item.get("stroke-width") == "5"]
    assert float(bar.get("x1") or 0) < first < float(bar.get("x2") or 0)
    assert "sex: F 0.800" in (svg.get("aria-label") or "")
