"""What the objectives send and keep, as formulas: docs/scaling.md quotes them, tests hold the program to them.

b own pairs, W ranks, G = W b pairs of all ranks, C shared channels, N patches, S unit capacity, D pixels of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass

from msvl.collectives.strict import Call

TILE = 2**22
"""Similarities of a tile of the local scale on a device (`local_tiles.DEVICE_TILE_ELEMENTS`)."""
SCALES = ("global", "global_sigmoid", "local", "instance", "modality", "modality_cross_sample")


@dataclass(frozen=True)
class Shape:
    """Sizes of one rank's share."""

    b: int
    W: int  # noqa: N815 - the symbols of the formulas
    C: int  # noqa: N815
    N: int  # noqa: N815
    S: int  # noqa: N815
    D: int  # noqa: N815

    @property
    def G(self) -> int:  # noqa: N802
        """Return the global batch."""
        return self.W * self.b


def bytes_sent(scales: tuple[str, ...], shape: Shape) -> dict[str, float]:
    """Return kind of message -> bytes that one rank sends per step, forward and backward, for scales trained together.

    Every kind has a factor W - 1: what a rank made goes to all others, and what they ask of it comes back.
    """
    b, c, s, others = shape.b, shape.C, shape.S, shape.W - 1
    contrasts = {"global", "global_sigmoid", "instance", "modality_cross_sample"} & set(scales)
    two_way = {"global", "local"} & set(scales)
    modality = {"modality", "modality_cross_sample"} & set(scales)
    sums = 4 * len({"global", "global_sigmoid"} & set(scales)) + 8 * ("local" in scales) + 12 * ("instance" in scales)
    sums += (16 + 4 * shape.D) * len(modality)
    return {
        "embeddings of images and reports": 8 * b * c * others,
        "gradients of the embeddings": 8 * b * c * others * bool(contrasts),
        "units": 4 * b * s * c * others * ("local" in scales),
        "gradients of the units": 4 * b * s * c * others * ("local" in scales),
        "identities": 40 * b * others,
        "which units are filled": b * s * others,
        "log-sum-exps of reports, and their gradients": 8 * b * others * len(two_way),
        "sums of metrics and counts": 2 * sums * others / shape.W,
    }


def sent_by_kind(calls: list[Call], shape: Shape) -> dict[str, float]:
    """Return what recorded calls sent, by the kinds of `bytes_sent`: told apart by operation, dtype and shape."""
    pair, units = (2, shape.C), (shape.S, shape.C)
    kinds = {
        ("all_gather", "float32", pair): "embeddings of images and reports",
        ("reduce_scatter", "float32", pair): "gradients of the embeddings",
        ("all_gather", "float32", units): "units",
        ("reduce_scatter", "float32", units): "gradients of the units",
        ("all_gather", "int64", (5,)): "identities",
        ("all_gather", "uint8", (shape.S,)): "which units are filled",
        ("all_to_all", "float32", ()): "log-sum-exps of reports, and their gradients",
    }
    found: dict[str, float] = {}
    for call in calls:
        operation = call.operation.partition(" ")[0]
        sums = operation == "all_reduce"
        kind = "sums of metrics and counts" if sums else kinds[operation, call.dtype, call.shape[1:]]
        found[kind] = found.get(kind, 0) + call.sent(shape.W)
    return found


def peak_bytes(scale: str, shape: Shape) -> float:
    """Return the most bytes that an objective holds beside its inputs on one rank, in forward and backward pass.

    Gradients of the inputs are part of it. Only terms that grow with the batch are named.
    """
    b, c, g = shape.b, shape.C, shape.G
    identities = (44 + shape.S) * g
    gathered = 8 * g * c
    return {
        # gathered, the gradient of its reports, both gradients side by side on the way home
        "global": lambda: gathered + 4 * g * c + 8 * g * c + 4 * b * c + identities,
        "global_sigmoid": lambda: gathered + 4 * g * c + 8 * g * c + 4 * b * c + identities,
        # the gradient of a head as wide as C; 3 b pairs of 2 C channels, or the gradient of what was gathered
        "instance": lambda: gathered + 8 * c * c + max(8 * g * c, 48 * b * c) + identities,
        # gathered, and on the way there the own pair side by side
        "modality": lambda: gathered + 8 * b * c + identities,
        # two gradients, of images and of reports, beside the pair of them
        "modality_cross_sample": lambda: gathered + 8 * g * c + 8 * g * c + 8 * b * c + identities,
        "local": lambda: _local(shape),
        "all": lambda: _local(shape) + gathered + 8 * g * c + 8 * c * c + 16 * b * c,
    }[scale]()


def _local(shape: Shape) -> float:
    """Return units, their gradient and that of the tiles; the patches' gradient; the workspace of one tile; the scores."""
    b, c, n, s, g = shape.b, shape.C, shape.N, shape.S, shape.G
    reports = min(g, max(1, TILE // n // s))
    images = min(b, max(1, TILE // (reports * s * n)))
    similarities, gram = images * reports * s * n, 3 * n < 4 * c
    # 'gram': five matrices of similarities, and G with its gradient; 'context': three, and two of contexts.
    tile = 5 * similarities + 2 * images * n * n if gram else 3 * similarities + 2 * images * reports * s * c
    return 12 * g * s * c + 4 * b * n * c + 4 * tile + 12 * b * g + (52 + s) * g
