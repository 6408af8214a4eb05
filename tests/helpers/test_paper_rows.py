"""The demands on the quickstart's tables find what is not shown."""

from __future__ import annotations

from typing import Any

import pytest

from msvl.evaluation.paper_tables import PAPER_TABLES
from tests.helpers.paper_rows import not_shown


def figures() -> dict[str, dict[str, Any]]:
    """Make figures of which all holds: more labels are better, and no training is worse."""
    found: dict[str, dict[str, Any]] = {}
    for table in PAPER_TABLES:
        for row in table.own:
            for place, name in enumerate(row.figures):
                own = found.setdefault(row.task, {})
                own |= {name: 0.7 + 0.1 * place, f"{name}_untrained": 0.5, f"{name}_interval": [0.6, 0.9]}
                own[f"{name}_untrained_interval"] = [0.4, 0.6]
    return found


def test_what_holds_has_no_faults() -> None:
    assert not_shown(figures()) == []


@pytest.mark.parametrize(
    ("task", "changes", "fault"),
    [
        ("grounding", {"cnr_micro": 0.5}, "cnr_micro is 0.5000, and 0.5000 of an untrained encoder"),
        ("fine_tuned", {"auc_mean_at_100": 0.69}, "fine-tuned: 0.6900 with all labels, and 0.7000 with 1 % of them"),
        ("segmentation", {"dice_pooled_at_10_interval": None}, "dice_pooled_at_10_interval is missing"),
        ("linear_probe", {"auc_mean_at_1_untrained_interval": None}, "auc_mean_at_1_untrained_interval is missing"),
        ("retrieval", {"image_r5": None}, "image_r5 was not measured for both models"),
        ("zero_shot", {"auc_mean_untrained": None}, "auc_mean was not measured for both models"),
    ],
)
def test_what_does_not_hold_is_named(task: str, changes: dict[str, Any], fault: str) -> None:
    own = figures()
    own[task] |= changes
    (found,) = not_shown(own)
    assert fault in found


def test_marks_on_empty_images_are_no_merit() -> None:
    own = figures()
    own["segmentation"]["empty_false_positives_at_100"] = 0.0
    assert not_shown(own) == []
