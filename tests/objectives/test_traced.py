"""All objectives traced on the `meta` device at cluster size: no value is looked at, bytes and memory are the formulas'.

torch's fake process group lets one process be rank 0 of 512. A meta tensor has no values, so anything that needs one
(.item(), a mask used as an index) raises here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from msvl.collectives.strict import recording
from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings, Reconstruction
from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.total import Objectives
from tests.helpers.live_memory import LiveMemory
from tests.objectives.formulas import Shape, bytes_sent, peak_bytes

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
VIT_B_16 = {"b": 32, "C": 768, "N": 196, "S": 12, "D": 256}
VIT_B_14_AT_518 = {"b": 32, "C": 768, "N": 1369, "S": 12, "D": 196}
WORDS = {"b": 32, "C": 768, "N": 196, "S": 96, "D": 256}
WORLDS = (8, 64, 512)
TOLERANCE = 0.04
"""Of the peak: the formulas name what grows with the batch, not every scalar and metric."""


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[int]:
    """Be rank 0 of so many."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=request.param)
    yield request.param
    dist.destroy_process_group()


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


def traced(name: str, shape: Shape) -> tuple[float, int]:
    """Run forward and backward; return the bytes sent and the peak of memory."""
    embeddings, ids = share(shape)
    objectives = Objectives(ObjectivesConfig.model_validate(OFF | CONFIGS[name]), channels=shape.C, seed=0).to("meta")
    with recording() as calls, LiveMemory() as memory:
        objectives(embeddings, ids, 0)["total"].backward()
    assert embeddings.patches.grad is not None or "local" not in CONFIGS[name]
    return sum(call.sent(shape.W) for call in calls), memory.peak


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
    "Bytes sent per step at 8, 64 and 512 ranks are those of the formulas in docs/scaling.md", how="traced"
)
@pytest.mark.parametrize("world", WORLDS, indirect=True)
@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_sent_are_those_of_the_formulas(world: int, name: str) -> None:
    shape = Shape(W=world, **VIT_B_16)
    sent, _ = traced(name, shape)
    assert sent == pytest.approx(sum(bytes_sent(TOGETHER if name == "all" else (name,), shape).values()), rel=1e-12)


@pytest.mark.evidence(
    "Peak memory of the losses at 8, 64 and 512 ranks is that of the formulas in docs/scaling.md", how="traced"
)
@pytest.mark.parametrize("world", WORLDS, indirect=True)
@pytest.mark.parametrize("sizes", [VIT_B_16, VIT_B_14_AT_518, WORDS], ids=["196-patches", "1369-patches", "words"])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "modality"])
def test_peak_memory_is_that_of_the_formulas(world: int, sizes: dict[str, int], name: str) -> None:
    shape = Shape(W=world, **sizes)
    _, peak = traced(name, shape)
    assert peak == pytest.approx(peak_bytes(name, shape), rel=TOLERANCE)
