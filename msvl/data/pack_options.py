"""How a source is packed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from msvl.config.errors import DataError


@dataclass(frozen=True)
class PackOptions:
    """How a source is packed; all but `max_dropped_share` decide about the bytes."""

    short_side: int = 512
    """Pixels; larger images are shrunk to it."""
    image_format: Literal["jpg", "png"] = "jpg"
    """How images are stored."""
    quality: int = 90
    """Of JPEGs."""
    depth: Literal[8, 16] = 8
    """Bits of a grey value; 16 keeps those of 16-bit images, as PNG."""
    shard_samples: int = 5000
    """Samples per shard at most, but for a larger study."""
    shard_gb: float = 1.0
    """Size of a shard at most in 10^9 bytes, but for a larger study."""
    val_share: float = 0.1
    """Share of patients in val, for sources without splits of their own."""
    test_share: float = 0.1
    """Share of patients in test, likewise."""
    id_key: str = ""
    """Secret of the keyed hashes that replace source ids; the source's name when empty."""
    max_dropped_share: float = 0.5
    """Share of dropped records above which packing fails."""
    reports_from_labels: bool = False
    """Write short sentences from the labels of a source without reports, as CXR-CLIP and MedCLIP train on labelled sets."""
    as_published: bool = False
    """Let a patient be in two splits, as some published lists have it; the source's settings record it."""
    tokenizer_vocabulary: int = 0
    """Train a WordPiece tokenizer of this size on the training reports; 0 trains none."""

    def __post_init__(self) -> None:
        """Raise DataError naming the option that is out of its range."""
        if self.short_side < 16:
            raise DataError(f"--short-side {self.short_side}: give 16 pixels or more")
        if not 1 <= self.quality <= 100:
            raise DataError(f"--quality {self.quality}: give 1 to 100")
        if self.depth == 16 and self.image_format != "png":
            raise DataError("--depth 16: a JPEG holds 8 bits; leave --format away or give --format png")
        if self.shard_samples < 1:
            raise DataError(f"--shard-samples {self.shard_samples}: give 1 or more")
        if self.shard_gb <= 0:
            raise DataError(f"--shard-gb {self.shard_gb:g}: give more than 0")
        if min(self.val_share, self.test_share) < 0 or self.val_share + self.test_share > 1:
            raise DataError(
                f"--val-share {self.val_share:g} and --test-share {self.test_share:g}: give shares from 0 on whose sum is "
                "at most 1"
            )

    def recorded(self) -> dict[str, Any]:
        """Return the options as the manifest keeps them: the secret only as a hash."""
        kept = {
            name: value for name, value in self.__dict__.items() if name not in ("max_dropped_share", "as_published")
        }
        return kept | {"id_key": hashlib.sha256(self.id_key.encode()).hexdigest()[:16] if self.id_key else ""}
