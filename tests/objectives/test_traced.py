"""All objectives traced on the `meta` device at cluster size: no value is looked at, bytes and memory are the formulas'.

torch's fake process group lets one process be one of 512 ranks. A meta tensor has no values, so anything that needs one
(.item(), a mask used as an index) raises here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from _pytest.mark.structures import ParameterSet
from torch import Tensor

from benchmarks.one_rank import ranks
from msvl.collectives.strict import recording
from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings, Reconstruction
from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.total import Objectives
from tests.helpers.live_memory import LiveMemory
from tests.objectives.formulas import Shape, bytes_sent, peak_bytes, sent_by_kind

CONFIGS = {
    "global": {"global": {"weight": 1}},
    "global_sigmoid": {"global": {"weight": 1, "loss": "sigmoid", "temperature": 0.1}},
    "local": {"local": {"weight": 1}},
    "instance": {"instance": {"weight": 1}},
    "modality": {"modality": {"weight": 1}},
    "modality_cross_sample": {"modality": {"weight": 1, "cross_sample_weight": 0.1}},
    "all": {"global": {}, "local": {}, "instance": {}, "modality": {"cross_sample_weight": 0.1}},
}
OFF = {name: {"weight": 0} for name in ("global", "local", "instance", "modality")}
TOGETHER = ("global", "local", "instance", "modality_cross_sample")
SIZES = {
    "196-patches": {"C": 768, "N": 196, "S": 12, "D": 256},
    "1369-patches": {"C": 768, "N": 1369, "S": 12, "D": 196},
    "words": {"C": 768, "N": 196, "S": 96, "D": 256},
}
"""ViT-B/16 at 224 px, ViT-B/14 at 518 px, and words as units."""
WORLDS = (8, 64, 512)
TOLERANCE = 0.04
"""Of the peak: the formulas name what grows with the batch, not every scalar and metric."""


def share(shape: Shape) -> tuple[Embeddings, SampleIds]:
    """Return one rank's embeddings, as leaves with gradient, and identities."""

    def leaf(*size: int) -> Tensor:
        return torch.empty(*size, device="meta", requires_grad=True)

    b, c = shape.b, shape.C
    whole = torch.empty(b, dtype=torch.int64, device="meta")
    reconstruction = Reconstruction(
        patch_prediction=leaf(b, 2, shape.D),
        patch_target=torch.empty(b, 2, shape.D, device="meta"),
        token_logits=leaf(b, 2, 5),
        token_labels=torch.empty(b, 2, dtype=torch.int64, device="meta"),
    )
    embeddings = Embeddings(
        image=leaf(b, c),
        text=leaf(b, c),
        patches=leaf(b, shape.N, c),
        sentences=leaf(b, shape.S, c),
        sentence_mask=torch.empty(b, shape.S, dtype=torch.bool, device="meta"),
        masked_image=leaf(b, c),
        masked_text=leaf(b, c),
        reconstruction=reconstruction,
    )
    return embeddings, SampleIds(sample=whole, text=whole, read=whole, study=whole, patient=whole)


def traced(name: str, shape: Shape) -> tuple[dict[str, float], int]:
    """Run forward and backward; return the bytes sent by kind of message, and the peak of memory."""
    embeddings, ids = share(shape)
    objectives = Objectives(ObjectivesConfig.model_validate(OFF | CONFIGS[name]), channels=shape.C, seed=0).to("meta")
    with recording() as calls, LiveMemory() as memory:
        objectives(embeddings, ids, 0)["total"].backward()
    assert embeddings.patches.grad is not None or "local" not in CONFIGS[name]
    return sent_by_kind(calls, shape), memory.peak


@pytest.mark.evidence(
    "Every objective runs without looking at a value and without sizes that depend on data", how="traced"
)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("duplicates", ["exclude", "positive", "keep"])
def test_no_value_is_looked_at(name: str, duplicates: str) -> None:
    shape = Shape(b=6, W=1, C=16, N=9, S=4, D=8)
    tree = {
        scale: options | ({"duplicates": duplicates} if scale in ("global", "local") else {})
        for scale, options in (OFF | CONFIGS[name]).items()
    }
    embeddings, ids = share(shape)
    objectives = Objectives(ObjectivesConfig.model_validate(tree), channels=shape.C, seed=0).to("meta")
    objectives(embeddings, ids, 0)["total"].backward()


@pytest.mark.evidence(
    "Bytes per collective at 8, 64 and 512 ranks are those of the formulas in docs/scaling.md", how="traced"
)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_sent_are_those_of_the_formulas(world: int, name: str) -> None:
    shape = Shape(b=32, W=world, **SIZES["196-patches"])
    with ranks(world):
        sent, _ = traced(name, shape)
    expected = bytes_sent(TOGETHER if name == "all" else (name,), shape)
    assert sent == pytest.approx({kind: size for kind, size in expected.items() if size}, rel=1e-12)


def memory_cases() -> Iterator[ParameterSet]:
    """Yield ranks, pairs per rank, sizes and loss; the largest take half a minute each, and CI takes 4 pairs there."""
    for world, sizes, name in product(WORLDS, SIZES, CONFIGS):
        large = world == 512 and sizes != "196-patches" and name in ("local", "all")
        if large:
            yield pytest.param(world, 4, sizes, name)
        yield pytest.param(world, 32, sizes, name, marks=[pytest.mark.slow] * large)


@pytest.mark.evidence(
    "Peak memory of the losses at 8, 64 and 512 ranks is that of the formulas in docs/scaling.md", how="traced"
)
@pytest.mark.parametrize(("world", "pairs", "sizes", "name"), memory_cases())
def test_peak_memory_is_that_of_the_formulas(world: int, pairs: int, sizes: str, name: str) -> None:
    shape = Shape(b=pairs, W=world, **SIZES[sizes])
    with ranks(world):
        _, peak = traced(name, shape)
    assert peak == pytest.approx(peak_bytes(name, shape), rel=TOLERANCE)
