"""Both forms of the matching function against the published loop written out, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msvl.objectives import local_tiles
from msvl.objectives.local_alignment import Form, cheaper_form, matching_scores
from tests.helpers import reference
from tests.objectives.one_rank import close

IMAGES, PATCHES, CHANNELS, CAPACITY = 3, 5, 4, 4
COUNTS = (2, 4, 1, 3, 4, 1, 2)
TEMPS: dict = {"temp1": 4.0, "temp2": 5.0}


def inputs(*, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    patches = torch.randn(IMAGES, PATCHES, CHANNELS, generator=generator, dtype=torch.float64)
    units = torch.randn(len(COUNTS), CAPACITY, CHANNELS, generator=generator, dtype=torch.float64)
    mask = torch.arange(CAPACITY) < torch.tensor(COUNTS).unsqueeze(1)
    return patches.to(dtype).requires_grad_(), units.to(dtype).requires_grad_(), mask


@pytest.mark.parametrize("normalise_over", ["units_then_patches", "patches"])
@pytest.mark.parametrize("form", ["context", "gram"])
@pytest.mark.parametrize("tile", [None, 1, 3])
def test_every_form_is_the_published_loop(form: Form, normalise_over: str, tile: int | None) -> None:
    patches, units, mask = inputs()
    weights = torch.randn(IMAGES, len(COUNTS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = matching_scores(patches, units, mask, **TEMPS, normalise_over=normalise_over, form=form, tile=tile)
    (found * weights).sum().backward()

    plain_patches, plain_units = (leaf.detach().clone().requires_grad_() for leaf in (patches, units))
    first = normalise_over == "units_then_patches"
    expected = torch.stack([
        torch.stack([
            reference.matching(image, plain_units[k, : COUNTS[k]], **TEMPS, over_units_first=first)
            for k in range(len(COUNTS))
        ])
        for image in plain_patches
    ])  # fmt: skip
    (expected * weights).sum().backward()
    assert close(found, expected)
    assert close(patches.grad, plain_patches.grad)
    assert close(units.grad, plain_units.grad)
    assert not units.grad[~mask].any()


@pytest.mark.parametrize("unit_length", [False, True])
@pytest.mark.parametrize("form", ["context", "gram"])
def test_gradients_pass_finite_differences(form: Form, unit_length: bool) -> None:
    patches, units, mask = inputs()

    def scores(patches: Tensor, units: Tensor) -> Tensor:
        return matching_scores(patches, units, mask, **TEMPS, form=form, unit_length=unit_length)

    assert torch.autograd.gradcheck(scores, (patches, units))


def test_holes_in_the_mask_are_padding_too() -> None:
    patches, units, mask = inputs()
    holed = mask.clone()
    holed[1] = torch.tensor([True, False, True, False])
    packed = units[1:2, [0, 2]]
    alone = matching_scores(patches, packed, torch.ones(1, 2, dtype=torch.bool), **TEMPS)
    assert close(matching_scores(patches, units, holed, **TEMPS)[:, 1:2], alone)


@pytest.mark.parametrize("form", ["context", "gram"])
@pytest.mark.parametrize("elements", [1, 2 * PATCHES * CAPACITY, 2 * PATCHES * CAPACITY * len(COUNTS)])
def test_blocks_of_one_image_or_of_two_give_the_same(
    form: Form, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.randn(IMAGES, len(COUNTS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = []
    for size in (2**20, elements):
        monkeypatch.setattr(local_tiles, "CPU_TILE_ELEMENTS", size)
        patches, units, mask = inputs()
        found = matching_scores(patches, units, mask, **TEMPS, form=form)
        (found * weights).sum().backward()
        values.append((found, patches.grad, units.grad))
    assert all(close(one, other) for one, other in zip(*values, strict=True))


@pytest.mark.parametrize("form", ["context", "gram"])
@pytest.mark.parametrize("tile", [None, 3])
def test_tiles_cut_as_on_a_device_give_the_same(form: Form, tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = []
    for cut in (local_tiles.cut_by_length, local_tiles.cut_in_order):
        monkeypatch.setattr(local_tiles, "cut_by_length", cut)
        patches, units, mask = inputs()
        found = matching_scores(patches, units, mask, **TEMPS, form=form, tile=tile)
        found.square().sum().backward()
        values.append((found, patches.grad, units.grad))
    assert all(close(one, other) for one, other in zip(*values, strict=True))


def test_the_tiles_cover_every_report_once_at_its_own_width() -> None:
    _, units, mask = inputs()
    tiles = local_tiles.cut_reports(units.detach(), mask, num_patches=PATCHES, reports=2)
    assert sorted(torch.cat([tile.reports for tile in tiles]).tolist()) == list(range(len(COUNTS)))
    assert [tile.width for tile in tiles] == [1, 2, 4, 4]
    assert [tile.complete for tile in tiles] == [True, True, False, True]
    for tile in tiles:
        assert torch.equal(tile.mask.sum(dim=1), mask[tile.reports].sum(dim=1))


def test_the_cheaper_form_follows_patches_and_channels() -> None:
    assert cheaper_form(196, 768) == "gram"
    assert cheaper_form(1369, 768) == "context"
    assert cheaper_form(196, 128) == "context"


def test_memory_for_the_backward_pass_is_inputs_and_scores_only() -> None:
    patches, units, mask = inputs(dtype=torch.float32)
    held: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        matching_scores(patches, units, mask, **TEMPS)
    assert sum(held) == patches.numel() + units.numel() + mask.numel()
