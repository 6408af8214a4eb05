"""Products of every loss, counted while the real modules run on the `meta` device, against the formulas of docs/scaling.md."""

from __future__ import annotations

import pytest

from benchmarks.loss_cost import counted_losses, loss_flop
from benchmarks.one_rank import configuration, ranks
from msvl.objectives.local_alignment import cheaper_form


@pytest.mark.evidence("The work of each loss in FLOP is that of the formulas in docs/scaling.md", how="traced")
@pytest.mark.parametrize("world", [2, 8])
@pytest.mark.parametrize(("image_size", "form"), [(28, "gram"), (84, "context")])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("objectives.global.loss=sigmoid", "objectives.global.duplicates=positive"),
        ("objectives.instance.width=10", "objectives.modality.cross_sample_weight=0"),
    ],
)
def test_work_of_the_losses_is_that_of_the_formulas(
    world: int, image_size: int, form: str, overrides: tuple[str, ...]
) -> None:
    config = configuration(image_size, 14, "model.channels=16", *overrides)
    assert cheaper_form((image_size // 14) ** 2, 16) == form
    with ranks(world):
        assert counted_losses(config, 6) == loss_flop(config, 6, 6 * world)
