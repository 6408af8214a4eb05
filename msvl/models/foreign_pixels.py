"""Grey images as the three channels of other people's encoders, each with a mean and a standard deviation of its own.

msvl standardises a grey image once, by m and s. A channel that was trained with m_c and s_c is x * s / s_c + (m - m_c) / s_c of
the standardised x.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from msvl.config.errors import ConfigError
from msvl.models.families.vit import ViTImageEncoder
from msvl.models.foreign_files import ForeignCheckpoint


@dataclass(frozen=True)
class Planes:
    """From one standardised grey plane to the channels of an encoder."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map [B, 1, H, W] to [B, channels, H, W]."""
        scale, shift = (pixels.new_tensor(values)[:, None, None] for values in (self.scale, self.shift))
        return pixels * scale + shift


def grey_statistics(described: ForeignCheckpoint) -> tuple[float, float]:
    """Return m and s: the checkpoint's own, or the means over its channels."""
    mean, std = (fmean(values) for values in _channels(described))
    return mean, std


def planes_of(described: ForeignCheckpoint, num_channels: int) -> Planes:
    """Return how an encoder of `num_channels` reads grey images. Raises ConfigError when the description has another number."""
    means, stds = _channels(described)
    if len(means) == 1:
        return Planes((1.0,) * num_channels, (0.0,) * num_channels)
    if num_channels != len(means):
        raise ConfigError(
            f"pixel_mean and pixel_std have 3 values, and the encoder has {num_channels} channels: give one"
        )
    mean, std = grey_statistics(described)
    return Planes(
        tuple(std / own for own in stds),
        tuple((mean - own) / spread for own, spread in zip(means, stds, strict=True)),
    )


def read_grey(encoder: ViTImageEncoder, described: ForeignCheckpoint) -> ViTImageEncoder:
    """Return a ViT whose patch projection has taken in the statistics of its channels; nothing is padded, so that is exact."""
    projection = encoder.embeddings.patch_embeddings.projection
    assert projection.bias is not None, "a ViT's patches have a bias"
    planes = planes_of(described, projection.in_channels)
    with torch.no_grad():
        weight = projection.weight.double()
        shift = weight.new_tensor(planes.shift)[:, None, None]
        projection.bias.copy_(projection.bias.double() + (weight * shift).sum(dim=(1, 2, 3)))
        projection.weight.copy_(weight * weight.new_tensor(planes.scale)[:, None, None])
    return encoder


def _channels(described: ForeignCheckpoint) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and deviations, one or three of both."""
    mean, std = described.pixel_mean, described.pixel_std
    count = max(len(values) if isinstance(values, tuple) else 1 for values in (mean, std))
    means, stds = (values if isinstance(values, tuple) else (values,) * count for values in (mean, std))
    return means, stds
