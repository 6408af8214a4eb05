"""Every benchmark of the losses can draw the CSV that it has written."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from benchmarks import collective_bytes, global_loss, loss_cost
from benchmarks.measuring import RESULTS


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (global_loss, "global_loss"),
        (collective_bytes, "collective_bytes"),
        (loss_cost, "loss_cost"),
        (loss_cost, "loss_cost_measured"),
    ],
)
def test_the_newest_csv_is_drawn(script: object, name: str, tmp_path: Path) -> None:
    newest = max(RESULTS.glob(f"{name}-*.csv"))
    assert newest.with_suffix(".png").is_file(), "and its plot is committed"
    copied = Path(shutil.copy(newest, tmp_path))
    script.draw(copied)  # type: ignore[attr-defined]
    assert cv2.imread(str(copied.with_suffix(".png"))).shape[0] > 200
