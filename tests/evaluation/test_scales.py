"""Has every scale learnt, as read from a run's metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from msvl.evaluation.run_record import RunRecord
from msvl.evaluation.scales import scale_figures, scale_table


def record(accuracy: float, *, facts: dict[str, float] | None = None) -> RunRecord:
    lines = [
        {"step": step, "train/matching_accuracy_hard": 0.1 if step <= 270 else accuracy, "train/mlm": 4.0}
        for step in range(10, 301, 10)
    ]
    return RunRecord(path=Path("run"), run={"facts": facts or {}}, config="", metrics=lines, seconds={}, evaluations=())


def test_figures_are_means_over_the_last_tenth_beside_their_guess() -> None:
    figures = scale_figures(record(0.7, facts={"unigram_entropy": 4.5}))
    assert figures == {
        "matching_accuracy": pytest.approx(0.7),
        "matching_accuracy_guess": 0.5,
        "masked_token_cross_entropy": pytest.approx(4.0),
        "masked_token_cross_entropy_guess": 4.5,
    }


def test_the_table_says_which_scale_has_learnt() -> None:
    rows = {row[0]: row[1:] for row in scale_table(scale_figures(record(0.45, facts={"unigram_entropy": 4.5}))).rows}
    assert rows["instance: accuracy on hard negatives"] == ("0.450", "above 0.500", "no")
    assert rows["modality: cross entropy of masked tokens"] == ("4.000", "below 4.500", "yes")


def test_what_was_not_measured_is_left_out() -> None:
    assert "masked_token_cross_entropy" not in scale_figures(record(0.7))
