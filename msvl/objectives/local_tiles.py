"""How all pairs of images and reports are cut into tiles.

b own images, G all reports, T reports of a tile, N patches, S unit capacity, W <= S unit places of a tile, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-8
"""Smallest product of norms in a cosine (GLoRIA)."""

CPU_TILE_ELEMENTS = 2**20
"""Similarities in a tile on a CPU: 4 MB in fp32, so that what is done to them stays in its caches; 2**19 and 2**21 were no
faster on two cores with 2 MB of level 2 each (2026-11-25)."""

DEVICE_TILE_ELEMENTS = 2**22
"""The same elsewhere, where many small tiles would cost more than they save."""


class Tile(NamedTuple):
    """Some reports, brought together."""

    reports: Tensor | slice
    """Their places among the G."""
    units: Tensor
    """[T, W, C], contiguous."""
    mask: Tensor
    """[T, W] bool."""
    norms: Tensor
    """[T, W] lengths of the units."""
    complete: bool
    """Whether it is known that the mask is True everywhere."""

    @property
    def width(self) -> int:
        """Return W."""
        return self.mask.shape[1]


def length(vectors: Tensor) -> Tensor:
    """Return the norms over the last axis, [..., C] -> [...]; the gradient at a zero vector (a padded place) is 0 instead of NaN."""
    return vectors.square().sum(dim=-1).clamp(min=EPSILON**2).sqrt()


def cut_reports(units: Tensor, mask: Tensor, *, num_patches: int, reports: int | None) -> list[Tile]:
    """Return the tiles of all reports.

    Args:
        units: [G, S, C].
        mask: [G, S] bool.
        num_patches: N.
        reports: Per tile; None takes as many as its similarities to one image allow.
    """
    places = max(1, tile_elements(mask.device) // num_patches)
    cut = cut_by_length if mask.device.type == "cpu" else cut_in_order
    return cut(units, mask, places=places, reports=reports)


def cut_in_order(units: Tensor, mask: Tensor, *, places: int, reports: int | None) -> list[Tile]:
    """Return tiles as wide as the capacity, without a look at the mask: a device would have to be waited for.

    Args:
        units: [G, S, C].
        mask: [G, S] bool.
        places: Unit places of a tile.
        reports: Reports of a tile instead.
    """
    size = reports or max(1, places // mask.shape[1])
    cuts = [slice(start, start + size) for start in range(0, len(mask), size)]
    return [_tile(cut, units[cut], mask[cut], complete=False) for cut in cuts]


def cut_by_length(units: Tensor, mask: Tensor, *, places: int, reports: int | None) -> list[Tile]:
    """Return tiles of reports of like length, each only as wide as its longest (arguments as `cut_in_order`)."""
    widths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)
    order = widths.argsort(stable=True)
    tiles = []
    for start, stop, width in _runs(widths[order].tolist(), places, reports):
        chosen = order[start:stop]
        tile_mask = mask[chosen, :width]
        tiles.append(_tile(chosen, units[chosen, :width], tile_mask, complete=bool(tile_mask.all())))
    return tiles


def image_blocks(images: int, tiles: list[Tile], *, num_patches: int) -> Iterator[slice]:
    """Yield blocks of so many images: one, or more where few similarities belong to each.

    Args:
        images: b.
        tiles: Of all reports.
        num_patches: N.
    """
    largest = max(tile.mask.numel() for tile in tiles) * num_patches
    size = max(1, tile_elements(tiles[0].mask.device) // largest)
    for start in range(0, images, size):
        yield slice(start, min(start + size, images))


def tile_elements(device: torch.device) -> int:
    """Return how many similarities a tile may have."""
    return CPU_TILE_ELEMENTS if device.type == "cpu" else DEVICE_TILE_ELEMENTS


def _tile(reports: Tensor | slice, units: Tensor, mask: Tensor, *, complete: bool) -> Tile:
    units = units.contiguous()
    return Tile(reports=reports, units=units, mask=mask, norms=length(units), complete=complete)


def _runs(widths: list[int], places: int, reports: int | None) -> Iterator[tuple[int, int, int]]:
    """Yield start, stop and width of runs of ascending widths with at most `places` unit places, or of `reports` reports."""
    start = 0
    while start < len(widths):
        stop = start + 1
        while stop < len(widths) and (
            stop - start < reports if reports else (stop + 1 - start) * widths[stop] <= places
        ):
            stop += 1
        yield start, stop, widths[stop - 1]
        start = stop
