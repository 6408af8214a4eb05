"""The sizes of `--shrink` and of a small batch, and a tree of values merged into another (no torch here)."""

from __future__ import annotations

from typing import Any

CONFIG_PAIRS, LOSS_PAIRS = 2, 4
"""Pairs per rank in the check of a configuration, and of `--loss`."""
SHRUNK: dict[str, Any] = {
    "data": {"image_size": 64},
    "model": {
        "channels": 32,
        "image": {"weights": None, "width": 64, "depth": 1, "heads": 2, "mlp_width": 64,
                  "decoder": {"width": 16, "depth": 1, "heads": 2}},
        "text": {"weights": None, "width": 32, "depth": 1, "heads": 2, "mlp_width": 32},
    },
}  # fmt: skip
"""What `--shrink` changes: sizes, never the objectives."""


def shrink(tree: dict[str, Any], changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration with the sizes of SHRUNK."""
    result = dict(tree)
    for key, value in (SHRUNK if changes is None else changes).items():
        result[key] = shrink(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result


def pairs_for(world: int) -> int:
    """Return the pairs of a small global batch: at least 8, and two per rank."""
    return world * max(2, -(-8 // world))
